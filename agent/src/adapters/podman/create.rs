//! The create call: what a tenant's container may do and use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buddo_shared::model::id::HostId;
use buddo_shared::model::limits::Limits;
use http::{Method, StatusCode};
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;

use super::images::Image;
use super::transport::{Answer, Call, Transport, TransportError};
use super::{containers, image_policy, images, lock_budget, shortage};
use crate::model::container::{ContainerSpec, Created};
use crate::model::workload::Identity;
use crate::ports::ContainersError;

/// Label with the deployment's id; every container of ours has it.
pub(super) const LABEL_DEPLOYMENT: &str = "buddo.deployment";
/// Label with the name of the service within the deployment.
pub(super) const LABEL_SERVICE: &str = "buddo.service";
/// Label with the number of the replica of the service.
pub(super) const LABEL_REPLICA: &str = "buddo.replica";
/// Label with the number of the revision that introduced the content of the service.
pub(super) const LABEL_REVISION: &str = "buddo.revision";
/// Label with `a` or `b`.
pub(super) const LABEL_SLOT: &str = "buddo.slot";

/// What common images need to start as root and switch to their own user. Omitted from Docker's
/// default set: `SETPCAP`, `SETFCAP`, `SYS_CHROOT`, `MKNOD`, `NET_RAW`, `AUDIT_WRITE`.
const CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// Bytes of log kept of each container; beyond that conmon truncates the file.
const LOG_BYTES: i64 = 4 * 1024 * 1024;

/// When the host runs out of memory, apps are killed before the services they all depend on
/// (`proc_pid_oom_score_adj(5)`).
const OOM_SCORE: i32 = 500;

/// File descriptors that a process in a container may have open.
const OPEN_FILES: u64 = 65_536;

/// The kernel's period for CPU limits, in microseconds (its default).
const CPU_PERIOD: u64 = 100_000;

/// Body of `POST containers/create` (libpod `specgen.SpecGenerator`), as far as it is set.
#[derive(Debug, Serialize)]
struct Body {
    name: String,
    image: String,
    labels: BTreeMap<&'static str, String>,
    portmappings: [PortMapping; 1],
    cap_drop: [&'static str; 1],
    cap_add: [&'static str; 8],
    /// `specgen` spells it this way; unknown keys are silently ignored.
    no_new_privileges: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp_profile_path: Option<PathBuf>,
    oom_score_adj: i32,
    netns: Namespace,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    network_options: BTreeMap<&'static str, Vec<&'static str>>,
    log_configuration: LogConfiguration,
    r_limits: [ResourceLimit; 1],
    /// The agent starts containers itself.
    restart_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_limits: Option<ResourceLimits>,
    secret_env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, &'static str>,
    /// Overrides the image's annotations, see [`image_policy`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, &'static str>,
    /// No volumes for the image's VOLUME: each would take a lock and stay behind.
    image_volume_mode: &'static str,
    /// HEALTHCHECK of the image never runs: only the agent's probes count.
    healthconfig: HealthCheck,
    /// A command that looks like systemd gets no extra privileges.
    systemd: &'static str,
}

/// `manifest.Schema2HealthConfig` of containers/image. Without an interval, Podman before 5 creates
/// no timer for it either.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    test: [&'static str; 1],
}

#[derive(Debug, Serialize)]
struct PortMapping {
    host_ip: String,
    host_port: u16,
    container_port: u16,
    protocol: &'static str,
}

#[derive(Debug, Serialize)]
struct Namespace {
    nsmode: &'static str,
}

#[derive(Debug, Serialize)]
struct LogConfiguration {
    driver: &'static str,
    size: i64,
}

/// Podman upper-cases `type` and prefixes `RLIMIT_`.
#[derive(Debug, Serialize)]
struct ResourceLimit {
    r#type: &'static str,
    soft: u64,
    hard: u64,
}

/// File descriptors of each process in a container: enough for a busy server, but at most
/// `allowed`, our user's limit, above which the container would not start.
fn open_files(allowed: u64) -> ResourceLimit {
    let limit = OPEN_FILES.min(allowed);
    ResourceLimit { r#type: "nofile", soft: limit, hard: limit }
}

/// The hard limit of this process. Podman's service has the same one: one user manager runs both.
fn allowed_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_FILES, |(_, hard)| hard)
}

/// OCI runtime spec, `linux.resources`.
#[derive(Debug, Serialize)]
struct ResourceLimits {
    memory: Memory,
    cpu: Cpu,
    pids: Pids,
}

#[derive(Debug, Serialize)]
struct Memory {
    limit: u64,
    /// Memory and swap together: equal to `limit`, so there is no swap.
    swap: u64,
}

#[derive(Debug, Serialize)]
struct Cpu {
    quota: u64,
    period: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    limit: u32,
}

impl From<Limits> for ResourceLimits {
    fn from(limits: Limits) -> Self {
        let bytes = u64::from(limits.memory_mb) * 1024 * 1024;
        Self {
            memory: Memory { limit: bytes, swap: bytes },
            cpu: Cpu {
                quota: u64::from(limits.cpu_millicores) * CPU_PERIOD / 1_000,
                period: CPU_PERIOD,
            },
            pids: Pids { limit: limits.pids },
        }
    }
}

/// A network namespace of the container's own, from which the host's loopback is unreachable.
/// Podman before 5 uses slirp4netns, later versions pasta; both block it by default.
fn network(podman: &str) -> (Namespace, BTreeMap<&'static str, Vec<&'static str>>) {
    let major = podman.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major >= 5) {
        return (Namespace { nsmode: "pasta" }, BTreeMap::new());
    }
    // rootlesskit's forwarder is about three times as fast as slirp4netns's own.
    let options = vec!["port_handler=rootlesskit", "allow_host_loopback=false"];
    (Namespace { nsmode: "slirp4netns" }, BTreeMap::from([("slirp4netns", options)]))
}

fn body(
    spec: &ContainerSpec,
    found: &Image,
    host: HostId,
    seccomp: Option<&Path>,
    podman: &str,
    allowed: u64,
) -> Body {
    let Identity { workload, revision, slot } = spec.identity;
    let (netns, network_options) = network(podman);
    Body {
        name: spec.name.clone(),
        image: images::local_name(&spec.image),
        labels: BTreeMap::from([
            (LABEL_DEPLOYMENT, workload.deployment.to_string()),
            (LABEL_SERVICE, workload.service.to_string()),
            (LABEL_REPLICA, workload.replica.to_string()),
            (LABEL_REVISION, revision.to_string()),
            (LABEL_SLOT, slot.as_str().to_owned()),
            ("buddo.port", spec.port.to_string()),
            ("buddo.host", host.to_string()),
        ]),
        portmappings: [PortMapping {
            host_ip: spec.address.ip().to_string(),
            host_port: spec.address.port(),
            container_port: spec.port.get(),
            protocol: "tcp",
        }],
        cap_drop: ["ALL"],
        cap_add: CAPABILITIES,
        no_new_privileges: true,
        seccomp_profile_path: seccomp.map(Path::to_owned),
        oom_score_adj: OOM_SCORE,
        netns,
        network_options,
        log_configuration: LogConfiguration { driver: "k8s-file", size: LOG_BYTES },
        r_limits: [open_files(allowed)],
        restart_policy: "no",
        resource_limits: spec.limits.map(ResourceLimits::from),
        secret_env: spec.secret_env.clone(),
        env: spec.empty_env.iter().map(|name| (name.clone(), "")).collect(),
        annotations: image_policy::emptied(found, podman),
        image_volume_mode: "ignore",
        healthconfig: HealthCheck { test: ["NONE"] },
        systemd: "false",
    }
}

pub(super) async fn create(
    transport: &Transport,
    host: HostId,
    seccomp: Option<&Path>,
    spec: &ContainerSpec,
) -> Result<Created, ContainersError> {
    const OPERATION: &str = "create the container";
    // Not only after a pull: the image may already have been here, or been loaded by other means.
    let found = images::inspect(transport, &spec.image).await?;
    let found = found.ok_or_else(|| ContainersError::NotFound(spec.image.to_string()))?;
    image_policy::check(&spec.image, &found).map_err(ContainersError::Image)?;
    // Each answer names the version.
    let version = transport.version().unwrap_or_default();
    let json = serde_json::to_vec(&body(spec, &found, host, seccomp, &version, allowed_files()))
        .map_err(|error| TransportError::Decode(error).during(OPERATION))?;
    let call = Call::libpod(OPERATION, Method::POST, "containers/create")
        .deadline(Duration::from_secs(30))
        .body("application/json", json);
    let answer = transport.call(call.clone()).await?;
    if !is_name_taken(&answer) {
        return created(answer, spec);
    }
    if containers::exists(transport, &spec.name).await? {
        return Ok(Created::Existed);
    }
    // Podman lost its records of a container but its storage still has it: that one cannot be
    // started, and its name stays taken until it is removed.
    tracing::warn!(name = spec.name, "removing a container that Podman does not know");
    containers::remove(transport, &spec.name).await?;
    created(transport.call(call).await?, spec)
}

/// 4.3 reports a taken name with a 500.
fn is_name_taken(answer: &Answer) -> bool {
    answer.status == StatusCode::CONFLICT
        || (answer.status != StatusCode::CREATED
            && answer.message().contains("name is already in use"))
}

fn created(answer: Answer, spec: &ContainerSpec) -> Result<Created, ContainersError> {
    let message = answer.message();
    match answer.status {
        StatusCode::CREATED => Ok(Created::New),
        _ if message.contains("image not known") || message.contains("no such image") => {
            Err(ContainersError::NotFound(spec.image.to_string()))
        }
        _ => Err(lock_budget::no_lock_left(&message).unwrap_or_else(|| shortage::refusal(&answer))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use buddo_shared::model::id::Revision;
    use buddo_shared::model::image::ImageReference;
    use buddo_shared::model::port::Port;
    use buddo_shared::model::workload::ReplicaIndex;

    use super::*;
    use crate::model::workload::{Slot, WorkloadId};

    fn json(limits: Option<Limits>, podman: &str) -> serde_json::Value {
        let id = "550e8400-e29b-41d4-a716-446655440000";
        let spec = ContainerSpec {
            name: "buddo-x".to_owned(),
            identity: Identity {
                workload: WorkloadId {
                    deployment: id.parse().unwrap(),
                    service: "web".parse().unwrap(),
                    replica: ReplicaIndex::new(1),
                },
                revision: Revision::new(2),
                slot: Slot::B,
            },
            image: ImageReference::parse("ghcr.io/a/b:v1").unwrap(),
            address: "127.64.0.1:8000".parse().unwrap(),
            port: Port::try_from(3000).unwrap(),
            limits,
            secret_env: BTreeMap::from([("KEY".to_owned(), "buddo-s".to_owned())]),
            empty_env: BTreeSet::from(["UNSET".to_owned()]),
        };
        let seccomp = Some(Path::new("/s/seccomp.json"));
        let found = Image {
            annotations: Some(BTreeMap::from([("com.acme.note".to_owned(), "x".to_owned())])),
            ..Image::default()
        };
        let host = id.parse().unwrap();
        serde_json::to_value(body(&spec, &found, host, seccomp, podman, 20_000)).unwrap()
    }

    #[test]
    fn a_container_gets_what_it_needs_and_no_more() {
        let limits = Limits { memory_mb: 256, cpu_millicores: 250, pids: 128 };
        insta::assert_json_snapshot!(json(Some(limits), "4.3.1"));
    }

    #[test]
    fn podman_5_gets_the_same_and_its_own_network() {
        let limits = Limits { memory_mb: 256, cpu_millicores: 250, pids: 128 };
        insta::assert_json_snapshot!(json(Some(limits), "5.4.2"));
    }

    #[test]
    fn without_limits_none_are_sent() {
        assert!(json(None, "4.3.1").get("resource_limits").is_none());
    }

    #[test]
    fn fm_47_open_files_are_capped_at_the_users_limit() {
        assert_eq!(open_files(1_048_576).hard, OPEN_FILES);
        assert_eq!(open_files(4_096).hard, 4_096);
    }

    #[test]
    fn podman_5_uses_pasta() {
        for version in ["5.0.0", "5.4.2", "6.0.0-dev", ""] {
            assert_eq!(json(None, version)["netns"]["nsmode"], "pasta", "{version}");
        }
        assert_eq!(json(None, "4.9.4")["netns"]["nsmode"], "slirp4netns");
    }
}
