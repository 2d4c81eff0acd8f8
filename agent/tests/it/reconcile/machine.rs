//! Podman, probes, Caddy and the table in memory: the machine that outlives the agent, and one life
//! of the agent on it.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buddo_agent::model::container::{
    Container, ContainerSpec, ContainerState, Created, ExitInfo, Identity, Mended, Process, Slot,
};
use buddo_agent::model::health::ProbeOutcome;
use buddo_agent::model::live_table::LiveTable;
use buddo_agent::model::retries::Jitter;
use buddo_agent::model::workload::WorkloadId;
use buddo_agent::ports::{
    Containers, ContainersError, LiveTablePublisher, MemoryEvents, Prober, ProcessExits, Proxy,
    ProxyError, RefusedRoute, RouteFiles, World,
};
use buddo_runtime::clock::SystemClock;
use buddo_shared::host_wire::manifest::RegistryCredentials;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use tokio::sync::{Notify, watch};

/// A container, the secrets in its environment, and how often it was started.
pub(crate) type Made = (Container, BTreeMap<String, String>, u32);

/// What survives the agent: the machine.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) containers: Mutex<BTreeMap<String, Made>>,
    pub(crate) secrets: Mutex<BTreeMap<String, String>>,
    pub(crate) table: Mutex<LiveTable>,
    pub(crate) lists: AtomicUsize,
    pub(crate) inspections: AtomicUsize,
    pub(crate) publishes: AtomicUsize,
    pub(crate) routes: AtomicUsize,
    pub(crate) starts: AtomicUsize,
    /// Ports that answer probes; all do unless this says otherwise.
    pub(crate) silent: AtomicBool,
    /// Somebody removed the table.
    pub(crate) table_gone: AtomicBool,
    /// The disk takes no new table.
    pub(crate) table_broken: AtomicBool,
    /// Podman's event stream is open but silent.
    pub(crate) events_hang: AtomicBool,
    /// Registries send no byte.
    pub(crate) pulls_hang: AtomicBool,
    /// The tag has moved to other bytes.
    pub(crate) tag_moved: AtomicBool,
    /// An image that no registry has. Once that is known, the disk takes tables again.
    pub(crate) missing: Mutex<Option<ImageReference>>,
    /// Answers to creates that are lost, after the effect.
    pub(crate) lost_answers: AtomicUsize,
    /// What containers were made from, first to last.
    pub(crate) made_from: Mutex<Vec<ImageReference>>,
    /// When the table was last replaced, and how long after that containers were stopped.
    pub(crate) published: Mutex<Option<Instant>>,
    pub(crate) stopped_after: Mutex<Vec<Duration>>,
    /// Kills for memory that the kernel has counted for each process, and how often it was asked.
    pub(crate) kills: Mutex<BTreeMap<u32, u64>>,
    pub(crate) looks: watch::Sender<usize>,
    /// The kernel reports process exits.
    pub(crate) ended: Arc<Notify>,
}

/// The world of one life of the agent.
pub(crate) struct InMemory {
    pub(crate) life: Arc<Life>,
    pub(crate) table: Arc<Table>,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) jitter: Jitter,
}

impl World for InMemory {
    type Containers = Life;
    type Prober = Life;
    type Proxy = Life;
    type LiveTable = Table;
    type Clock = SystemClock;

    fn containers(&self) -> &Arc<Life> {
        &self.life
    }

    fn prober(&self) -> &Arc<Life> {
        &self.life
    }

    fn proxy(&self) -> &Arc<Life> {
        &self.life
    }

    fn live_table(&self) -> &Arc<Table> {
        &self.table
    }

    fn clock(&self) -> &Arc<SystemClock> {
        &self.clock
    }

    fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    fn memory_events(&self) -> Option<Arc<dyn MemoryEvents>> {
        Some(Arc::<Machine>::clone(&self.life.machine))
    }

    fn process_exits(&self) -> Option<Arc<dyn ProcessExits>> {
        Some(Arc::<Machine>::clone(&self.life.machine))
    }
}

impl ProcessExits for Machine {
    fn exit(&self, _: &Process) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let ended = Arc::clone(&self.ended);
        Some(Box::pin(async move { ended.notified().await }))
    }
}

impl MemoryEvents for Machine {
    fn kills(&self, process: &Process) -> Option<u64> {
        let kills = self.kills.lock().unwrap().get(&process.pid).copied();
        self.looks.send_modify(|looks| *looks += 1);
        kills
    }
}

/// One life of the agent on it. After `calls_left` calls it is as if killed: nothing answers.
pub(crate) struct Life {
    pub(crate) machine: Arc<Machine>,
    pub(crate) calls_left: AtomicI64,
    /// Whether the last call before the kill still has its effect.
    pub(crate) last_has_effect: bool,
    pub(crate) killed: Notify,
    /// Lines of Podman's events.
    pub(crate) lines: watch::Sender<u64>,
}

impl Life {
    pub(crate) fn event(&self) {
        if !self.machine.events_hang.load(Ordering::SeqCst) {
            self.lines.send_modify(|lines| *lines += 1);
        }
    }

    pub(crate) async fn call<T>(&self, effect: impl FnOnce(&Machine) -> T) -> T {
        let left = self.calls_left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return effect(&self.machine);
        }
        if left == 0 && self.last_has_effect {
            effect(&self.machine);
        }
        self.killed.notify_one();
        std::future::pending().await
    }
}

pub(crate) fn digest() -> Digest {
    digest_of('a')
}

pub(crate) fn digest_of(letter: char) -> Digest {
    Digest::parse(&format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
}

impl Containers for Life {
    async fn list(&self) -> Result<Vec<Container>, ContainersError> {
        self.call(|machine| {
            machine.lists.fetch_add(1, Ordering::SeqCst);
            let containers = machine.containers.lock().unwrap();
            Ok(containers.values().map(|(container, ..)| container.clone()).collect())
        })
        .await
    }

    async fn inspect(&self, name: &str) -> Result<Option<Container>, ContainersError> {
        self.call(|machine| {
            machine.inspections.fetch_add(1, Ordering::SeqCst);
            let containers = machine.containers.lock().unwrap();
            Ok(containers.get(name).map(|(container, ..)| container.clone()))
        })
        .await
    }

    async fn image(&self, image: &ImageReference) -> Result<Option<Digest>, ContainersError> {
        self.call(|_| Ok(image.digest().cloned())).await
    }

    async fn pull(
        &self,
        image: &ImageReference,
        _: Option<&RegistryCredentials>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<Digest, ContainersError> {
        progress(50);
        if self.machine.pulls_hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.call(|machine| {
            if machine.missing.lock().unwrap().as_ref() == Some(image) {
                machine.table_broken.store(false, Ordering::SeqCst);
                let text = "it is not there".to_owned();
                let code = "image_not_found".to_owned();
                return Err(ContainersError::Image(Failure {
                    code,
                    cause: text.clone(),
                    fix: text,
                }));
            }
            Ok(digest_of(if machine.tag_moved.load(Ordering::SeqCst) { 'b' } else { 'a' }))
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainersError> {
        self.call(|machine| {
            let mut containers = machine.containers.lock().unwrap();
            if containers.contains_key(&spec.name) {
                return Ok(Created::Existed);
            }
            let container = Container {
                name: spec.name.clone(),
                identity: Some(spec.identity),
                state: ContainerState::Created,
                address: Some(spec.address),
                process: None,
            };
            let entry = (container, spec.secret_env.clone(), 0);
            containers.insert(spec.name.clone(), entry);
            machine.made_from.lock().unwrap().push(spec.image.clone());
            let lost = &machine.lost_answers;
            if lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                let source = Box::from("connection reset");
                return Err(ContainersError::Unavailable { operation: "create", source });
            }
            Ok(Created::New)
        })
        .await
    }

    async fn start(&self, name: &str) -> Result<(), ContainersError> {
        self.event();
        self.call(|machine| {
            let mut containers = machine.containers.lock().unwrap();
            let Some((container, _, starts)) = containers.get_mut(name) else {
                return Err(ContainersError::NotFound(name.to_owned()));
            };
            if container.state != ContainerState::Running {
                container.state = ContainerState::Running;
                *starts += 1;
                let pid = machine.starts.fetch_add(1, Ordering::SeqCst) + 1;
                let pid = u32::try_from(pid).unwrap();
                container.process = Some(Process { container: name.to_owned(), pid });
            }
            Ok(())
        })
        .await
    }

    async fn stop(&self, name: &str, _: Duration) -> Result<bool, ContainersError> {
        self.event();
        self.call(|machine| {
            let since = machine.published.lock().unwrap().map(|at| at.elapsed());
            machine.stopped_after.lock().unwrap().extend(since);
            let mut containers = machine.containers.lock().unwrap();
            let found = containers.get_mut(name);
            Ok(found.map(|(container, ..)| container.state = ContainerState::Exited(143)).is_some())
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<bool, ContainersError> {
        self.event();
        self.call(|machine| Ok(machine.containers.lock().unwrap().remove(name).is_some())).await
    }

    async fn orphans(&self) -> Result<Vec<Identity>, ContainersError> {
        self.call(|_| Ok(Vec::new())).await
    }

    async fn end_orphans(
        &self,
        _: WorkloadId,
        _: Slot,
        _: Duration,
    ) -> Result<(), ContainersError> {
        self.call(|_| Ok(())).await
    }

    async fn free_address(&self, _: SocketAddrV4) -> Result<(), ContainersError> {
        self.call(|_| Ok(())).await
    }

    async fn inspect_exit(&self, _: &str) -> Result<ExitInfo, ContainersError> {
        let exit = ExitInfo { exit_code: 1, oom_killed: false, log_tail: String::new() };
        self.call(|_| Ok(exit)).await
    }

    async fn secrets(&self) -> Result<Vec<String>, ContainersError> {
        self.call(|machine| Ok(machine.secrets.lock().unwrap().keys().cloned().collect())).await
    }

    async fn put_secret(&self, name: &str, value: &Secret) -> Result<(), ContainersError> {
        self.call(|machine| {
            let value = value.expose().to_owned();
            machine.secrets.lock().unwrap().insert(name.to_owned(), value);
            Ok(())
        })
        .await
    }

    async fn remove_secret(&self, name: &str) -> Result<(), ContainersError> {
        self.call(|machine| {
            machine.secrets.lock().unwrap().remove(name);
            Ok(())
        })
        .await
    }

    async fn mend_secrets(&self) -> std::io::Result<Mended> {
        self.call(|_| Ok(Mended::default())).await
    }
}

impl Prober for Life {
    async fn probe(&self, address: SocketAddrV4, _: &Probe) -> ProbeOutcome {
        let containers = self.machine.containers.lock().unwrap();
        let runs = containers.values().any(|(container, ..)| {
            container.address == Some(address) && container.state == ContainerState::Running
        });
        match (runs, self.machine.silent.load(Ordering::SeqCst)) {
            (true, false) => ProbeOutcome::Healthy,
            (true, true) => ProbeOutcome::Unhealthy("connection closed".to_owned()),
            (false, _) => ProbeOutcome::Unreachable,
        }
    }
}

impl Proxy for Life {
    async fn apply(&self, _: &RouteFiles) -> Result<Vec<RefusedRoute>, ProxyError> {
        self.machine.routes.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    async fn warm(&self, _: &str) -> Result<(), ProxyError> {
        Ok(())
    }
}

pub(crate) struct Table(pub(crate) Arc<Machine>);

impl LiveTablePublisher for Table {
    async fn publish(&self, table: &LiveTable) -> std::io::Result<()> {
        self.0.publishes.fetch_add(1, Ordering::SeqCst);
        if self.0.table_broken.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        *self.0.published.lock().unwrap() = Some(Instant::now());
        *self.0.table.lock().unwrap() = table.clone();
        self.0.table_gone.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn is_in_force(&self) -> bool {
        !self.0.table_gone.load(Ordering::SeqCst)
    }
}
