//! What Podman says about itself and its host.

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::Podman;
use super::transport::{Answer, Call, Transport};
use crate::model::host_facts::{LimitGap, missing_controllers};
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
    /// Who makes containers' cgroups: `systemd`, or `cgroupfs` where Podman found no user bus.
    pub cgroup_manager: Option<String>,
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
    /// What keeps the kernel from enforcing memory, CPU and process limits of containers; `None`:
    /// nothing that Podman shows.
    pub fn limit_gap(&self) -> Option<LimitGap> {
        if self.cgroup_version != "v2" {
            Some(LimitGap::Version)
        } else if missing_controllers(&self.cgroup_controllers).next().is_some() {
            Some(LimitGap::Controllers)
        } else if self.cgroup_manager.as_deref() != Some("systemd") {
            Some(LimitGap::Manager)
        } else {
            None
        }
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
    cgroup_manager: Option<String>,
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
        cgroup_manager: raw.host.cgroup_manager,
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
        managed(controllers, r#""cgroupManager":"systemd","#)
    }

    fn managed(controllers: &str, manager: &str) -> Info {
        let body = format!(
            r#"{{"host":{{"cgroupVersion":"v2","cgroupControllers":{controllers},{manager}
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
        // Podman 4.3.1 and 5.4.2 differ only in what a user has without delegation.
        assert_eq!(info(r#"["cpu","memory","pids"]"#).limit_gap(), None);
        assert_eq!(info(r#"["cpuset","cpu","io","memory","pids"]"#).limit_gap(), None);
        assert_eq!(info(r#"["memory","pids"]"#).limit_gap(), Some(LimitGap::Controllers));
        assert_eq!(info("null").limit_gap(), Some(LimitGap::Controllers));
        let info = info("null");
        assert_eq!((&*info.version, info.containers, info.free_locks), ("4.3.1", 3, None));
        assert_eq!(info.graph_root, Some(PathBuf::from("/g")));
        assert_eq!(info.image_paths, [PathBuf::from("/g"), PathBuf::from("/t")]);
    }

    /// Without a user bus Podman lists the controllers all the same.
    #[test]
    fn fm_78_limits_without_systemd_as_cgroup_manager_count_as_missing() {
        let whole = r#"["cpu","memory","pids"]"#;
        for manager in [r#""cgroupManager":"cgroupfs","#, r#""cgroupManager":"","#, ""] {
            assert_eq!(managed(whole, manager).limit_gap(), Some(LimitGap::Manager), "{manager}");
        }
    }
}
