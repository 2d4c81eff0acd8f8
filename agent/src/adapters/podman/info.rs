//! What Podman says about itself and its host.

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::Podman;
use super::transport::{Answer, Call, Transport};
use crate::ports::ContainersError;

/// Facts about the host that decide what the agent may promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Podman's version, such as `4.3.1`.
    pub version: String,
    /// `v1` or `v2`.
    pub cgroup_version: String,
    /// Controllers delegated to Podman's user. Limits of others are accepted but not enforced.
    pub cgroup_controllers: Vec<String>,
    /// Name of the storage driver, such as `overlay`.
    pub storage_driver: String,
    /// Podman's storage root, if reported.
    pub graph_root: Option<PathBuf>,
    /// Folders that hold images: the storage first, then where parts lie during a pull.
    pub image_paths: Vec<PathBuf>,
    /// The network backend, such as `netavark`.
    pub network_backend: Option<String>,
    /// Number of containers, running or not.
    pub containers: u64,
    /// Free locks; Podman reports this from 4.6 on.
    pub free_locks: Option<u32>,
    /// Whether Podman runs without root.
    pub rootless: bool,
}

impl Info {
    /// Whether memory, CPU and process limits of containers are enforced by the kernel.
    pub fn enforces_limits(&self) -> bool {
        let delegated = |name: &str| self.cgroup_controllers.iter().any(|c| c == name);
        self.cgroup_version == "v2" && ["memory", "cpu", "pids"].into_iter().all(delegated)
    }
}

#[derive(Deserialize)]
struct Raw {
    host: Host,
    store: Store,
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    cgroup_version: String,
    cgroup_controllers: Option<Vec<String>>,
    network_backend: Option<String>,
    free_locks: Option<u32>,
    security: Security,
}

#[derive(Deserialize)]
struct Security {
    rootless: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    graph_driver_name: String,
    graph_root: Option<PathBuf>,
    image_copy_tmp_dir: Option<PathBuf>,
    #[serde(default, rename = "containerStore")]
    containers: Counted,
}

#[derive(Deserialize, Default)]
struct Counted {
    number: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

impl Podman {
    /// Asks Podman for the host's facts. Slow compared to the other calls: ask at start, not in
    /// each pass.
    pub async fn info(&self) -> Result<Info, ContainersError> {
        let info = ask(&self.transport).await?;
        if let Some(root) = &info.graph_root {
            // A pass that needs it finds it here, and does not wait half a second.
            self.graph_root.set(root.clone()).ok();
        }
        Ok(info)
    }
}

impl Info {
    /// Asks the service at `socket`, for callers that need nothing else from it.
    pub async fn of(socket: PathBuf) -> Result<Self, ContainersError> {
        ask(&Transport::new(socket)).await
    }
}

async fn ask(transport: &Transport) -> Result<Info, ContainersError> {
    let call = Call::libpod("read the host's facts", Method::GET, "info")
        .deadline(Duration::from_secs(20));
    parse(&transport.call(call).await?)
}

fn parse(answer: &Answer) -> Result<Info, ContainersError> {
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    let raw: Raw = answer.json()?;
    let root = raw.store.graph_root;
    Ok(Info {
        version: raw.version.version,
        cgroup_version: raw.host.cgroup_version,
        cgroup_controllers: raw.host.cgroup_controllers.unwrap_or_default(),
        storage_driver: raw.store.graph_driver_name,
        image_paths: root.iter().cloned().chain(raw.store.image_copy_tmp_dir).collect(),
        graph_root: root,
        network_backend: raw.host.network_backend,
        containers: raw.store.containers.number,
        free_locks: raw.host.free_locks,
        rootless: raw.host.security.rootless,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(controllers: &str) -> Info {
        let body = format!(
            r#"{{"host":{{"cgroupVersion":"v2","cgroupControllers":{controllers},
            "networkBackend":"netavark",
            "security":{{"rootless":true}}}},"store":{{"graphDriverName":"overlay",
            "graphRoot":"/g","imageCopyTmpDir":"/t","containerStore":{{"number":3}}}},
            "version":{{"Version":"4.3.1","APIVersion":"4.3.1"}}}}"#
        );
        let answer = Answer { operation: "info", status: StatusCode::OK, body: body.into() };
        parse(&answer).unwrap()
    }

    #[test]
    fn limits_are_enforced_only_with_all_controllers() {
        assert!(info(r#"["cpu","memory","pids"]"#).enforces_limits());
        assert!(!info(r#"["memory","pids"]"#).enforces_limits());
        assert!(!info("null").enforces_limits());
        let info = info("null");
        assert_eq!((&*info.version, info.containers, info.free_locks), ("4.3.1", 3, None));
        assert_eq!(info.graph_root, Some(PathBuf::from("/g")));
        assert_eq!(info.image_paths, [PathBuf::from("/g"), PathBuf::from("/t")]);
    }
}
