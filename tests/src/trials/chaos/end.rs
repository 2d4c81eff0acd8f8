//! How the host must look in the end: exactly the desired state, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;

use crate::api::Api;
use crate::poll;
use crate::product::Product;
use crate::trials::containers;

/// Drains, removals and back-offs take their time.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until everything is as it should be; fails with what is not.
pub(super) async fn check(
    product: &Product<'_>,
    api: &Api,
    ids: &[String],
    hosts: &[String],
) -> anyhow::Result<()> {
    let wanted = poll::until("the API to say that all is settled", PATIENCE, async || {
        settled(api, ids).await
    })
    .await?;
    poll::until("exactly the wanted containers", PATIENCE, async || {
        exact_containers(product, &wanted).await
    })
    .await?;
    poll::until("exactly the wanted secrets", PATIENCE, async || {
        let found = containers::secrets(product.world).await?;
        let names: BTreeSet<String> =
            wanted.iter().map(|(id, revision)| format!("buddo-{id}-app-0-r{revision}-0")).collect();
        ensure!(found == names, "{:?} differ", found.symmetric_difference(&names));
        Ok(())
    })
    .await?;
    let routes = std::fs::read_dir(product.world.layout().path("agent/caddy/routes"))?;
    let routes: Vec<_> =
        routes.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    ensure!(routes == ["zone.caddy"], "route files: {routes:?}");
    let edge = product.edge()?;
    for host in hosts {
        let answer = edge.get(host, "/").await.with_context(|| host.clone())?;
        ensure!(answer.status == 200, "{host}: {answer:?}");
    }
    Ok(())
}

/// Deployments and their revisions, once all of them serve their newest one without a warning.
async fn settled(api: &Api, ids: &[String]) -> anyhow::Result<BTreeSet<(String, String)>> {
    let listed = api.list().await?;
    ensure!(listed.len() == ids.len(), "{} deployments", listed.len());
    for deployment in &listed {
        let settled = deployment.status == Status::Running
            && deployment.last_error.is_none()
            && deployment.warning.is_none();
        ensure!(settled, "{deployment:?}");
    }
    Ok(listed
        .into_iter()
        .map(|deployment| (deployment.id, deployment.revision.to_string()))
        .collect())
}

async fn exact_containers(
    product: &Product<'_>,
    wanted: &BTreeSet<(String, String)>,
) -> anyhow::Result<()> {
    let found = containers::all(product.world).await?;
    let running: BTreeSet<_> = found
        .iter()
        .filter(|container| container.state == "running")
        .filter_map(|c| Some((c.deployment.clone()?, c.revision.clone()?)))
        .collect();
    // As many containers as identities: none twice, and none that is not ours.
    ensure!(running == *wanted && found.len() == wanted.len(), "{found:#?} for {wanted:?}");
    let published: Vec<&String> = found.iter().flat_map(|c| &c.addresses).collect();
    let distinct: BTreeSet<String> = published.iter().map(|&address| address.clone()).collect();
    ensure!(distinct.len() == published.len(), "an address is published twice: {published:?}");
    let sent = containers::live_table(product)?;
    ensure!(sent == distinct, "visitors are sent to {sent:?}, containers are at {distinct:?}");
    Ok(())
}
