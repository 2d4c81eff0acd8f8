//! `host evacuate` and `admin deployment destroy`.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, bail};
use buddo_runtime::clock::Clock;

use super::accounts::admin_context;
use super::printable;
use crate::args::DeploymentCommand;
use crate::config::Config;
use crate::crypto::vault::Vault;
use crate::service::admin::{self, AdminContext, Destroyed, Evacuated, Means};
use crate::store::Store;

/// Moves the deployments of a host; prints those that stay, one per line.
pub(super) async fn evacuate(
    context: &AdminContext,
    config: &Config,
    name: &str,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let vault = Arc::new(Vault::open_existing(&config.master_key())?);
    let means = Means { vault, overcommit: config.limits.memory_overcommit };
    let Evacuated { changed, left, .. } = admin::evacuate(context, &means, name, |_| ()).await?;
    for one in &left {
        writeln!(out, "{} {} {}", one.id, one.name, printable(&one.reason))?;
    }
    tracing::info!(
        "{name} gets no new deployments; moved to other hosts, which bring them up within half \
         a minute: {}",
        changed.len() / 2
    );
    if !left.is_empty() {
        bail!(
            "{} deployments of {name} stay on it, for the reasons printed; free capacity on other \
             hosts and run this again, or destroy them with `buddo-coordinator admin deployment \
             destroy`",
            left.len()
        );
    }
    Ok(())
}

/// `admin deployment …`.
pub async fn deployment(
    command: DeploymentCommand,
    config: &Config,
    clock: &dyn Clock,
) -> Result<()> {
    let context = admin_context(Store::open(&config.database())?, clock);
    match command {
        DeploymentCommand::Destroy { deployment } => {
            let Destroyed { id, name, .. } = admin::destroy(&context, &deployment).await?;
            tracing::info!(
                "{name} ({id}) is destroyed; its host stops it within half a minute, if it can be \
                 reached"
            );
        }
    }
    Ok(())
}
