//! What is on the host, according to Podman itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use buddo_agent::model::workload::{Identity, WorkloadId};
use http::Method;
use serde::Deserialize;

use crate::product::Product;
use crate::unix_http;
use crate::world::World;

/// A container of the world, of the product or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// Label `buddo.deployment`.
    pub deployment: Option<String>,
    /// Label `buddo.revision`: the one that introduced the content of its service.
    pub revision: Option<String>,
    /// What all its labels state together; `None` unless all are there and well-formed.
    pub identity: Option<Identity>,
    /// Podman's state for it, such as `running`.
    pub state: String,
    /// Addresses that it is published on.
    pub addresses: BTreeSet<String>,
}

/// All containers of the world.
pub async fn all(world: &World) -> anyhow::Result<Vec<Found>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        names: Vec<String>,
        labels: Option<BTreeMap<String, String>>,
        state: String,
        ports: Option<Vec<Port>>,
    }
    #[derive(Deserialize)]
    struct Port {
        host_ip: String,
    }
    let listed: Vec<Listed> = get(world, "containers/json?all=true").await?;
    Ok(listed
        .into_iter()
        .map(|listed| {
            let mut labels = listed.labels.unwrap_or_default();
            Found {
                name: listed.names.into_iter().next().unwrap_or_default(),
                identity: identity(&labels),
                deployment: labels.remove("buddo.deployment"),
                revision: labels.remove("buddo.revision"),
                state: listed.state,
                addresses: listed.ports.into_iter().flatten().map(|port| port.host_ip).collect(),
            }
        })
        .collect())
}

/// Stated independently of how the agent reads labels.
fn identity(labels: &BTreeMap<String, String>) -> Option<Identity> {
    let label = |name: &str| labels.get(&format!("buddo.{name}"));
    Some(Identity {
        workload: WorkloadId {
            deployment: label("deployment")?.parse().ok()?,
            service: label("service")?.parse().ok()?,
            replica: label("replica")?.parse().ok()?,
        },
        revision: label("revision")?.parse().ok()?,
        slot: label("slot")?.parse().ok()?,
    })
}

/// Names of all secrets of the world.
pub async fn secrets(world: &World) -> anyhow::Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Spec {
        name: String,
    }
    let listed: Vec<Listed> = get(world, "secrets/json").await?;
    Ok(listed.into_iter().map(|listed| listed.spec.name).collect())
}

/// SIGKILL to a running container, by Podman's API: quicker than its command line. Fails if it
/// is no longer running.
pub async fn kill(world: &World, name: &str) -> anyhow::Result<()> {
    let path = format!("/v4.0.0/libpod/containers/{name}/kill?signal=KILL");
    let (status, said) = unix_http::request(&socket(world), Method::POST, &path, None).await?;
    let said = String::from_utf8_lossy(&said);
    ensure!(status == 204, "{name} could not be killed: {status} {said}");
    Ok(())
}

/// Which container serves an app, as the agent sees it: `None` while nothing answers visitors.
pub async fn serving(product: &Product<'_>, deployment: &str) -> anyhow::Result<Found> {
    let table = live_table(product)?;
    let found = all(product.world).await?.into_iter().find(|container| {
        container.deployment.as_deref() == Some(deployment)
            && container.addresses.iter().any(|address| table.contains(address))
    });
    found.with_context(|| format!("nothing serves {deployment}"))
}

/// The addresses that visitors are sent to.
pub fn live_table(product: &Product<'_>) -> anyhow::Result<BTreeSet<String>> {
    let path: PathBuf = product.world.layout().path("agent/live.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: serde_json::Value = serde_json::from_slice(&text)?;
    let apps = table["apps"].as_object().context("the live table names no apps")?;
    Ok(apps
        .values()
        .filter_map(|target| target["addresses"].as_array())
        .flatten()
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect())
}

fn socket(world: &World) -> PathBuf {
    world.layout().path("run/podman.sock")
}

async fn get<T: serde::de::DeserializeOwned>(world: &World, path: &str) -> anyhow::Result<T> {
    let path = format!("/v4.0.0/libpod/{path}");
    let (status, body) = unix_http::get(&socket(world), &path).await?;
    ensure!(status == 200, "{path}: {status}");
    serde_json::from_slice(&body).with_context(|| format!("{path}: another form"))
}
