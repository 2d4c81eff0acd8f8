//! `key` and `ca`: rotations of what hosts trust.

use std::io::Write;

use anyhow::Result;
use buddo_runtime::clock::Clock;

use crate::args::{CaCommand, KeyCommand, Retire};
use crate::config::Config;
use crate::crypto::ca::HostCa;
use crate::key_files::Keys;
use crate::service::hosts::{join, rotation};
use crate::store::Store;
use crate::store::contract::Host;

/// `key list`, `rotate` and `retire`.
pub async fn key(
    command: KeyCommand,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let store = Store::open(&config.database())?;
    let keys = Keys::of(config)?.signing()?;
    match command {
        KeyCommand::List => {
            let now = keys.keys();
            let newest = &now.newest().public().kid;
            if let Some(old) = now.old() {
                writeln!(out, "{} old: retire it when no host is behind", old.public().kid)?;
            }
            writeln!(out, "{newest} signs")?;
            list_behind(&store, out, |host| rotation::has_moved_key(host, newest)).await
        }
        KeyCommand::Rotate => {
            let kid = rotation::rotate_key(&store, &keys, clock.now()).await?;
            writeln!(out, "{kid}")?;
            let old = keys.keys().old().map(|old| old.public().kid.clone()).unwrap_or_default();
            tracing::info!(
                "hosts move to the next key one by one; `buddo-coordinator key list` shows which \
                 have. Back up signing.next.key now; then: buddo-coordinator key retire {old}"
            );
            Ok(())
        }
        KeyCommand::Retire(Retire { old, force }) => {
            let left = rotation::retire_key(&store, &keys, clock.now(), &old, force).await?;
            tracing::info!("the old key no longer signs; back up signing.key again");
            warn_left(&left);
            Ok(())
        }
    }
}

/// `ca list`, `rotate` and `retire`.
pub async fn ca(
    command: CaCommand,
    config: &Config,
    ca: &HostCa,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let store = Store::open(&config.database())?;
    match command {
        CaCommand::Show => super::show_ca(ca, out),
        CaCommand::List => {
            let newest = ca.fingerprints().into_iter().next().unwrap_or_default();
            if let Some(old) = ca.old() {
                writeln!(out, "{old} old: retire it when no host is behind")?;
            }
            writeln!(out, "{newest} makes certificates")?;
            list_behind(&store, out, |host| rotation::has_moved_ca(host, &newest)).await
        }
        CaCommand::Rotate => {
            let fingerprint = rotation::rotate_ca(&store, ca, clock.now()).await?;
            writeln!(out, "{fingerprint}")?;
            let old = ca.old().unwrap_or_default();
            tracing::info!(
                "hosts trust both and get their next certificates from this one, within minutes; \
                 `buddo-coordinator ca list` shows which have. Back up ca.next.key and ca.next.pem \
                 now; then: buddo-coordinator ca retire {old}"
            );
            Ok(())
        }
        CaCommand::Retire(Retire { old, force }) => {
            let left = rotation::retire_ca(&store, ca, clock.now(), &old, force).await?;
            tracing::info!(
                "the old CA is no longer trusted; clients that check the API's certificate by it \
                 need the new one: buddo-coordinator ca show"
            );
            warn_left(&left);
            Ok(())
        }
    }
}

async fn list_behind(
    store: &Store,
    out: &mut (dyn Write + Send),
    has_moved: impl Fn(&Host) -> bool,
) -> Result<()> {
    for host in join::list(store).await? {
        if !has_moved(&host) {
            writeln!(out, "behind: {}", host.name)?;
        }
    }
    Ok(())
}

fn warn_left(left: &[String]) {
    if !left.is_empty() {
        tracing::warn!("these hosts must join again: {}", left.join(", "));
    }
}
