//! Containers: list, start, stop, remove, and how one exited.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use buddo_runtime::uri::escape;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::account_files::GraphDriver;
use super::create::{LABEL_DEPLOYMENT, LABEL_REPLICA, LABEL_REVISION, LABEL_SERVICE, LABEL_SLOT};
use super::elements::{Element, Keep};
use super::transport::{Answer, Call, Transport, TransportError};
use super::{account_files, image_policy, logs, refusal, shortage};
use crate::model::container::{Container, ContainerState, ExitInfo, Process};
use crate::model::workload::{Identity, WorkloadId};
use crate::ports::ContainersError;

/// One entry of `GET containers/json`, as far as we read it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    id: String,
    names: Option<Vec<String>>,
    labels: Option<HashMap<String, String>>,
    state: String,
    exit_code: Option<i32>,
    ports: Option<Vec<Published>>,
    #[serde(default)]
    pid: i64,
}

/// Where a port is published. Podman spells these fields in snake case.
#[derive(Debug, Deserialize)]
struct Published {
    host_ip: Option<String>,
    host_port: Option<u16>,
}

/// What is kept of each container in a list. Not the labels of its image: those are its author's.
const KEPT: &[Keep] = &[
    Keep::Whole("Id"),
    Keep::Whole("Names"),
    Keep::Whole("State"),
    Keep::Whole("ExitCode"),
    Keep::Whole("Ports"),
    Keep::Whole("Pid"),
    Keep::Keys(
        "Labels",
        &[LABEL_DEPLOYMENT, LABEL_SERVICE, LABEL_REPLICA, LABEL_REVISION, LABEL_SLOT],
    ),
];

/// No container whose image passed `image_policy` has a larger record: what that allows takes at
/// most six times its bytes in JSON.
const MAX_RECORD: u64 = 1024 * 1024;

/// The containers with our label.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) containers: Vec<Container>,
    /// Those whose records exceed the limit: their names, or their ids.
    pub(super) too_large: Vec<String>,
}

pub(super) async fn list(transport: &Transport) -> Result<Listing, ContainersError> {
    let filters = escape(&format!(r#"{{"label":["{LABEL_DEPLOYMENT}"]}}"#));
    let path = format!("containers/json?all=true&filters={filters}");
    let mut listing = Listing::default();
    let call = Call::libpod("list containers", Method::GET, path);
    transport.list(call, KEPT, |element| listing.take(&element)).await?;
    Ok(listing)
}

impl Listing {
    /// An oversized record slows down every list, for all apps. So that container is treated as
    /// broken, which affects only its app: it is removed, and its image is refused from then on.
    fn take(&mut self, element: &Element) -> Result<(), TransportError> {
        let Some(decoded) = element.decode::<Listed>() else {
            self.too_large.push(element.id().unwrap_or_else(|| "unknown".to_owned()));
            return Ok(());
        };
        let listed = decoded.map_err(TransportError::Decode)?;
        let Some(mut container) = listed.into_container() else { return Ok(()) };
        if element.bytes > MAX_RECORD {
            self.too_large.push(container.name.clone());
            container.state = ContainerState::Broken;
        }
        self.containers.push(container);
        Ok(())
    }
}

impl Listed {
    fn into_container(self) -> Option<Container> {
        let labels = self.labels.unwrap_or_default();
        // Podman renames a container that it could not remove completely; one without any name
        // cannot be addressed.
        let name = self.names?.into_iter().next()?;
        Some(Container {
            name,
            identity: identity(&labels),
            state: state(&self.state, self.exit_code.unwrap_or_default()),
            address: self.ports.unwrap_or_default().iter().find_map(Published::address),
            process: process(self.id, self.pid),
        })
    }
}

/// `pid` 0: not running.
fn process(container: String, pid: i64) -> Option<Process> {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0)?;
    Some(Process { container, pid })
}

impl Published {
    fn address(&self) -> Option<SocketAddrV4> {
        let ip: Ipv4Addr = self.host_ip.as_deref()?.parse().ok()?;
        Some(SocketAddrV4::new(ip, self.host_port?))
    }
}

/// What the labels state; `None` unless all are there and well-formed.
fn identity(labels: &HashMap<String, String>) -> Option<Identity> {
    Some(Identity {
        workload: WorkloadId {
            deployment: labels.get(LABEL_DEPLOYMENT)?.parse().ok()?,
            service: labels.get(LABEL_SERVICE)?.parse().ok()?,
            replica: labels.get(LABEL_REPLICA)?.parse().ok()?,
        },
        revision: labels.get(LABEL_REVISION)?.parse().ok()?,
        slot: labels.get(LABEL_SLOT)?.parse().ok()?,
    })
}

/// Podman's states (libpod `define.ContainerStatus`), as far as they need different handling.
fn state(word: &str, exit_code: i32) -> ContainerState {
    match word {
        "created" | "configured" | "initialized" => ContainerState::Created,
        "running" => ContainerState::Running,
        "exited" | "stopped" => ContainerState::Exited(exit_code),
        "stopping" => ContainerState::Stopping,
        _ => ContainerState::Broken,
    }
}

fn named(operation: &'static str, method: Method, name: &str, rest: &str) -> Call {
    Call::libpod(operation, method, format!("containers/{}{rest}", escape(name)))
        .deadline(Duration::from_secs(30))
}

/// How long a start waits for Podman to clean up the previous run, and the polling interval.
const CLEANUP: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(15));

pub(super) async fn start(transport: &Transport, name: &str) -> Result<(), ContainersError> {
    // After that it is started anyway: it may work, and probes notice if it does not.
    let waited = tokio::time::timeout(CLEANUP.0, cleaned_up(transport, name)).await;
    let found = match waited {
        Ok(found) => found?,
        Err(_) => inspect(transport, name).await?,
    };
    found.takes_nothing_from_its_image()?;
    account_files::check(transport, name, found.graph_driver).await?;
    let call = named("start the container", Method::POST, name, "/start");
    let answer = transport.call(call).await?;
    match answer.status {
        // 304: already running.
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(()),
        StatusCode::NOT_FOUND => Err(ContainersError::NotFound(name.to_owned())),
        _ => Err(shortage::refusal(&answer)),
    }
}

/// Waits until the network of an exited container is down. Podman reports 'exited' before that, and
/// a start in between succeeds with a port that nobody forwards: the container runs and cannot be
/// reached (4.3.1, nearly every time).
async fn cleaned_up(transport: &Transport, name: &str) -> Result<Inspected, ContainersError> {
    loop {
        let inspected = inspect(transport, name).await?;
        let ended = matches!(&*inspected.state.status, "exited" | "stopped");
        if !ended || inspected.network_settings.sandbox_key.is_empty() {
            return Ok(inspected);
        }
        tokio::time::sleep(CLEANUP.1).await;
    }
}

pub(super) async fn stop(
    transport: &Transport,
    name: &str,
    grace: Duration,
) -> Result<bool, ContainersError> {
    let rest = format!("/stop?timeout={}", grace.as_secs());
    let call = named("stop the container", Method::POST, name, &rest)
        .deadline(grace + Duration::from_secs(15));
    let answer = transport.call(call).await?;
    match answer.status {
        // 304: already stopped. A created one that never ran is stopped, too.
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(answer.refusal()),
    }
}

/// Whether Podman itself knows the container, not just its storage.
pub(super) async fn exists(transport: &Transport, name: &str) -> Result<bool, ContainersError> {
    let call = named("look for the container", Method::GET, name, "/exists");
    let answer = transport.call(call.deadline(Duration::from_secs(10))).await?;
    match answer.status {
        StatusCode::NO_CONTENT => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(answer.refusal()),
    }
}

/// Removes by force; returns whether it existed.
pub(super) async fn remove(transport: &Transport, name: &str) -> Result<bool, ContainersError> {
    // `v`: anonymous volumes of its image go with it. `timeout=0`: SIGKILL at once.
    let rest = "?force=true&v=true&timeout=0";
    let call = named("remove the container", Method::DELETE, name, rest);
    let answer = transport.call(call).await?;
    match answer.status {
        StatusCode::OK => removed(&answer).map(|()| true),
        StatusCode::NO_CONTENT => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(answer.refusal()),
    }
}

/// A failed removal can be reported inside a 200: `[{"Id", "Err"}]`.
fn removed(answer: &Answer) -> Result<(), ContainersError> {
    #[derive(Deserialize)]
    struct Removal {
        #[serde(rename = "Err")]
        error: Option<String>,
    }
    let errors: Vec<Removal> = answer.json()?;
    match errors.into_iter().find_map(|removal| removal.error.filter(|error| !error.is_empty())) {
        None => Ok(()),
        Some(message) => Err(ContainersError::Refused {
            operation: answer.operation,
            status: answer.status.as_u16(),
            message,
        }),
    }
}

/// `GET containers/{name}/json`, as far as we read it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    state: InspectedState,
    #[serde(default)]
    network_settings: NetworkSettings,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    graph_driver: GraphDriver,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    /// Present even when not running, unlike the ports of its network settings.
    port_bindings: Option<HashMap<String, Option<Vec<Binding>>>>,
}

/// Where a port is published, as inspect spells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: String,
    host_port: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    labels: Option<HashMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Inspected {
    /// What the runtime would act on was kept out when the container was created, going by what
    /// Podman then said of the image. Another pull may have given the same image other annotations
    /// between that and Podman's own look at it, so the container itself is checked.
    fn takes_nothing_from_its_image(&self) -> Result<(), ContainersError> {
        let annotations = self.config.annotations.iter().flatten();
        match image_policy::obeyed(annotations) {
            None => Ok(()),
            Some((what, why)) => Err(ContainersError::Image(refusal::annotated(&what, why))),
        }
    }

    /// As a list would show it; `None` if none of our lists would.
    fn into_container(self) -> Option<Container> {
        let labels = self.config.labels.unwrap_or_default();
        labels.get(LABEL_DEPLOYMENT)?;
        let bindings = self.host_config.port_bindings.unwrap_or_default();
        Some(Container {
            name: self.name,
            identity: identity(&labels),
            state: state(&self.state.status, self.state.exit_code),
            address: bindings.into_values().flatten().flatten().find_map(|b| b.address()),
            process: process(self.id, self.state.pid),
        })
    }
}

impl Binding {
    fn address(&self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.host_ip.parse().ok()?, self.host_port.parse().ok()?))
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSettings {
    /// The network namespace's file, until Podman has taken it down.
    sandbox_key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    exit_code: i32,
    #[serde(default)]
    pid: i64,
    /// Often false even after an OOM kill: then only exit code 137 tells.
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
}

async fn inspect(transport: &Transport, name: &str) -> Result<Inspected, ContainersError> {
    let call = named("inspect the container", Method::GET, name, "/json");
    let answer = transport.call(call.deadline(Duration::from_secs(10))).await?;
    match answer.status {
        StatusCode::OK => answer.json::<Inspected>(),
        StatusCode::NOT_FOUND => Err(ContainersError::NotFound(name.to_owned())),
        _ if is_gone(&answer) => Err(ContainersError::NotFound(name.to_owned())),
        _ => Err(answer.refusal()),
    }
}

/// A container removed between Podman's lookup of its name and the inspection: a 500 that ends with
/// libpod's `ErrNoSuchCtr` (4.3.1). Treating that as a failure would re-list all containers on many
/// a removal.
fn is_gone(answer: &Answer) -> bool {
    answer.message().ends_with("no such container")
}

pub(super) async fn find(
    transport: &Transport,
    name: &str,
) -> Result<Option<Container>, ContainersError> {
    match inspect(transport, name).await {
        // Podman also answers for an id or an id prefix: only a name is meant.
        Ok(found) => Ok(found.into_container().filter(|found| found.name == name)),
        Err(ContainersError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn inspect_exit(
    transport: &Transport,
    name: &str,
) -> Result<ExitInfo, ContainersError> {
    let state = inspect(transport, name).await?.state;
    // `follow=false` only: a follower that is never ended leaks memory in the service.
    let rest = format!("/logs?stdout=true&stderr=true&follow=false&tail={}", logs::LINES);
    let call = named("read the container's log", Method::GET, name, &rest);
    let log_tail = match transport.call(call.deadline(Duration::from_secs(5))).await {
        Ok(answer) if answer.status == StatusCode::OK => logs::tail(&answer.body),
        // The log only adds detail: the exit is known without it.
        Ok(_) | Err(_) => String::new(),
    };
    Ok(ExitInfo { exit_code: state.exit_code, oom_killed: state.oom_killed, log_tail })
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::id::Revision;

    use super::*;
    use crate::model::workload::Slot;

    /// As Podman 4.3.1 sent it, shortened.
    const LISTED: &str = r#"[{"AutoRemove":false,"Created":"2026-11-23T00:49:56.705418423Z",
        "Exited":false,"ExitedAt":-62135596800,"ExitCode":0,"Id":"1435ea19","Labels":{
        "buddo.deployment":"550e8400-e29b-41d4-a716-446655440000","buddo.host":"x",
        "buddo.port":"8080","buddo.replica":"1","buddo.revision":"3","buddo.service":"web",
        "buddo.slot":"b","io.buildah.version":"1.28.2"},
        "Names":["t1"],"Networks":[],"Pid":730,"Ports":[{"host_ip":"127.64.9.1",
        "container_port":8080,"host_port":8000,"range":1,"protocol":"tcp"}],"Size":null,
        "StartedAt":1795394996,"State":"running","Status":""},
        {"Id":"9","Names":["t2"],"Labels":{"buddo.deployment":"junk"},"State":"created","Pid":0,
        "StartedAt":-62135596800,"Ports":null,"ExitCode":0}]"#;

    #[test]
    fn one_list_call_gives_all_container_fields() {
        let listed: Vec<Listed> = serde_json::from_str(LISTED).unwrap();
        let found: Vec<_> = listed.into_iter().filter_map(Listed::into_container).collect();
        assert_eq!(found[0].name, "t1");
        let identity = found[0].identity.unwrap();
        let workload = "550e8400-e29b-41d4-a716-446655440000/web/1".parse().unwrap();
        let slot = Slot::B;
        assert_eq!(identity, Identity { workload, revision: Revision::new(3), slot });
        assert_eq!(found[0].address, Some("127.64.9.1:8000".parse().unwrap()));
        assert_eq!(found[0].state, ContainerState::Running);
        let process = Process { container: "1435ea19".to_owned(), pid: 730 };
        assert_eq!(found[0].process, Some(process));
        assert_eq!(found[1].identity, None);
        assert_eq!((found[1].address, &found[1].process), (None, &None));
        assert_eq!(found[1].state, ContainerState::Created);
    }

    /// Such as those of agents that knew no services, or of somebody's own making.
    #[test]
    fn a_container_with_only_some_of_the_labels_has_no_identity() {
        let all = [
            (LABEL_DEPLOYMENT, "550e8400-e29b-41d4-a716-446655440000"),
            (LABEL_SERVICE, "app"),
            (LABEL_REPLICA, "0"),
            (LABEL_REVISION, "3"),
            (LABEL_SLOT, "b"),
        ]
        .map(|(label, value)| (label.to_owned(), value.to_owned()));
        let all = HashMap::from(all);
        assert!(identity(&all).is_some());
        for label in all.keys() {
            let mut some = all.clone();
            some.remove(label);
            assert_eq!(identity(&some), None, "without {label}");
            some.insert(label.clone(), "-".to_owned());
            assert_eq!(identity(&some), None, "a malformed {label}");
        }
    }

    /// Podman 4.3.1's wording.
    #[test]
    fn a_container_removed_during_inspection_counts_as_gone() {
        let answer = |message: &str| Answer {
            operation: "inspect the container",
            status: StatusCode::INTERNAL_SERVER_ERROR,
            body: serde_json::json!({"cause": "x", "message": message, "response": 500})
                .to_string()
                .into(),
        };
        let gone = "container 8500b32c7b89 does not exist in database: no such container";
        assert!(is_gone(&answer(gone)));
        assert!(!is_gone(&answer("container 8500b32c7b89 is not valid: unexpected end of JSON")));
    }

    #[test]
    fn unknown_states_count_as_broken() {
        assert_eq!(state("exited", 137), ContainerState::Exited(137));
        assert_eq!(state("stopping", 0), ContainerState::Stopping);
        for word in ["paused", "removing", "unknown", "improper", "restored-by-a-future-podman"] {
            assert_eq!(state(word, 0), ContainerState::Broken);
        }
    }
}
