//! What the agent's core asks of the world, and nothing of how it is done.
//!
//! `plan` and `health` are pure and know none of these; `observe` and `apply` are the only
//! callers of [`Containers`] and [`Proxy`]. Production implements them in `podman/`, `caddy/`,
//! `probe.rs` and `resolver/`; simulation implements them with faults.

mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buddo_shared::id::{DeploymentId, Generation, Revision};
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::limits::Limits;
use buddo_shared::manifest::RegistryCredentials;
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use buddo_shared::report::{Accepted, Failure, Frame, Report};
use buddo_shared::secret::Secret;
use buddo_shared::signed::VerifyError;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub use self::named::Named;
use crate::failed_requests::{FailedRequests, Names};
use crate::trust::PinsError;

/// Wall time, injected. Durations and deadlines use `tokio::time`, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// One of the two places a deployment's containers can be in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The identity that labels give a container; its name follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Label `buddo.deployment`.
    pub deployment: DeploymentId,
    /// Label `buddo.revision`.
    pub revision: Revision,
    /// Label `buddo.slot`.
    pub slot: Slot,
}

/// A container of ours as one list call shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What its labels say; `None` where they are missing or malformed.
    pub identity: Option<Identity>,
    /// Whether it runs.
    pub state: ContainerState,
    /// Where its port is published.
    pub address: Option<SocketAddrV4>,
    /// While it runs, and where that is known: its process.
    pub process: Option<Process>,
}

/// The first process of a container that runs. Each start makes another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    /// Podman's id of the container.
    pub container: String,
    /// As the host numbers it.
    pub pid: u32,
}

/// Podman's states, as far as they call for different steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Created, or listed so after a power loss: start works.
    Created,
    /// Running.
    Running,
    /// Ended with this code.
    Exited(i32),
    /// Being stopped; it may hang there.
    Stopping,
    /// Paused, removing, unknown or broken: remove it.
    Broken,
}

/// All that a create call says.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Deterministic name: creating it twice is a conflict, never a second container.
    pub name: String,
    /// Becomes the labels.
    pub identity: Identity,
    /// The image, pinned by digest.
    pub image: ImageReference,
    /// Where to publish the port on the host.
    pub address: SocketAddrV4,
    /// The port inside.
    pub port: Port,
    /// Limits; `None` where the host cannot enforce them and its configuration allows that.
    pub limits: Option<Limits>,
    /// Environment variable name → name of the Podman secret that holds its value.
    pub secret_env: BTreeMap<String, String>,
    /// Environment variables that are set to nothing: Podman stores no empty secret.
    pub empty_env: BTreeSet<String>,
}

/// Whether create made the container or found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made now.
    New,
    /// The name was taken: an earlier call made it and its answer was lost. Adopt it.
    Existed,
}

/// Why an operation on Podman failed, told apart as far as steps or words differ.
#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    /// The service does not answer, or not in time, or something else kept the call from its
    /// answer; try again.
    #[error("could not {operation}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// Why; a [`Hindrance`] where Podman may be well.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image cannot be had, for a reason that its operator can mend.
    #[error("{}", .0.cause)]
    Image(Failure),
    /// The registry could not be reached or was busy; try again.
    #[error("{}", .0.cause)]
    Registry(Failure),
    /// The host has no room for it: disk space, places for containers, or whatever else of its own
    /// it takes to run one. It may have later.
    #[error("{}", .0.cause)]
    Full(Failure),
    /// There is no such container, image or secret.
    #[error("Podman knows no {0}")]
    NotFound(String),
    /// Podman refused; its own words.
    #[error("Podman refused to {operation} ({status}): {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// Podman's message.
        message: String,
    },
}

impl ContainersError {
    /// What kept a call from its answer, where that was no silence of Podman's.
    pub fn hindrance(&self) -> Option<Hindrance> {
        match self {
            Self::Unavailable { source, .. } => source.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// Why a call has no answer although Podman may well give one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hindrance {
    /// It was not sent: as many as may be under way at once were, all the time.
    #[error("{calls} earlier calls were still under way after {waited:?}")]
    Crowded {
        /// How many.
        calls: usize,
        /// How long it waited.
        waited: Duration,
    },
    /// The answer is larger than any that is read.
    #[error("the answer has more than {most} bytes")]
    TooLarge {
        /// Bytes that are read.
        most: u64,
    },
}

/// The exit code of a process that SIGKILL ended. Where the agent sent none, it is most often the
/// kernel's, for memory: Podman seldom notes that.
pub const KILLED: i32 = 137;

/// How a container ended, for the words of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Exit code.
    pub exit_code: i32,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// The last lines it printed, bounded. May hold what the app chose to print: for its
    /// operator only.
    pub log_tail: String,
}

/// The ends of processes, told the moment they happen.
pub trait ProcessExits: Send + Sync + 'static {
    /// Ready once this process has ended. `None`: that is not told here.
    fn exit(&self, process: &Process) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>;
}

/// The kernel's count of kills for memory, as far as a guard needs it.
pub trait MemoryEvents: Send + Sync + 'static {
    /// How often a process of this run of a container was killed because the container had
    /// reached its own limit of memory. `None`: nobody counts that here, or it runs no more.
    /// Blocks for as long as the kernel takes.
    fn kills(&self, process: &Process) -> Option<u64>;
}

/// Podman, as far as the agent needs it. Every call has a deadline of its own.
pub trait Containers: Send + Sync + 'static {
    /// All containers with our labels, in one call.
    fn list(&self) -> impl Future<Output = Result<Vec<Container>, ContainersError>> + Send;
    /// What an administrator should know of what the last lists held.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// One container with our labels, as it is now. `None`: there is none of that name.
    fn inspect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Container>, ContainersError>> + Send;
    /// The registry digest of a local image with these exact bytes, where there is one.
    fn image(
        &self,
        image: &ImageReference,
    ) -> impl Future<Output = Result<Option<Digest>, ContainersError>> + Send;
    /// Pulls, always asking the registry what the tag means now. `progress` gets per cents.
    /// Ends when no progress was made for the no-progress deadline.
    fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> impl Future<Output = Result<Digest, ContainersError>> + Send;
    /// Creates; a taken name is [`Created::Existed`].
    fn create(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<Created, ContainersError>> + Send;
    /// Starts; an already running one is success.
    fn start(&self, name: &str) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// SIGTERM, then SIGKILL after `grace`; an already stopped one is success. Whether Podman knew
    /// it: an absent one is success as well, but Podman may have lost it while it runs.
    fn stop(
        &self,
        name: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<bool, ContainersError>> + Send;
    /// Removes by force. Whether Podman knew it, as for [`stop`](Self::stop).
    fn remove(&self, name: &str) -> impl Future<Output = Result<bool, ContainersError>> + Send;
    /// What runs here and Podman does not know any more.
    fn lost(&self) -> impl Future<Output = Result<Vec<Identity>, ContainersError>> + Send;
    /// Ends containers of this slot that run and that Podman does not know any more: SIGTERM, then
    /// SIGKILL after `grace`. None is success.
    fn end_lost(
        &self,
        deployment: DeploymentId,
        slot: Slot,
        grace: Duration,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Ends what forwards `address`, at which no container that Podman knows is published. Nothing
    /// is success.
    fn free_address(
        &self,
        address: SocketAddrV4,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// How a container ended.
    fn ending(&self, name: &str) -> impl Future<Output = Result<Ending, ContainersError>> + Send;
    /// Names of our secrets.
    fn secrets(&self) -> impl Future<Output = Result<Vec<String>, ContainersError>> + Send;
    /// Stores a secret; one of that name that exists is success (names hold the revision).
    fn put_secret(
        &self,
        name: &str,
        value: &Secret,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Removes a secret; an absent one is success.
    fn remove_secret(&self, name: &str)
    -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Makes whole what Podman keeps of secrets, where a write of it was cut short. Ours may be
    /// missing afterwards, all or some.
    fn mend_secrets(&self) -> impl Future<Output = std::io::Result<Mended>> + Send;
}

/// What was found, and made, of Podman's secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mended {
    /// They were not whole.
    pub changed: bool,
    /// What is kept of torn ones, of now or of before: there may be secrets of others in it.
    pub aside: Vec<PathBuf>,
}

/// An image in Podman's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Podman's id: the same bytes under several names are one image.
    pub id: String,
    /// Every name it is known by: tags, and digests of the repositories that it came from.
    pub names: Vec<ImageReference>,
    /// Every name that it once had and has no more: its tag has moved to another image.
    pub former: Vec<ImageReference>,
    /// Of its manifest. All that Podman tells of the origin of an image without a name.
    pub digest: Option<Digest>,
    /// It has, or had, a name that no registry can have given it.
    pub foreign: bool,
    /// Unpacked, layers that it shares with others included.
    pub bytes: u64,
    /// A container uses it, also a stopped one and one that is not ours.
    pub in_use: bool,
}

/// Podman's storage of images, as far as the collector needs it. Every call has a deadline.
pub trait Images: Send + Sync + 'static {
    /// All images.
    fn images(&self) -> impl Future<Output = Result<Vec<LocalImage>, ContainersError>> + Send;
    /// Removes an image, unless a container uses it: never by force. An absent one is success.
    fn remove_image(
        &self,
        image: &LocalImage,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
}

/// What is heard of Podman's events: hints, never data. The stream behind it is opened anew
/// whenever it ends.
#[derive(Debug, Clone)]
pub struct EventFeed {
    /// Changes with each hint that something happened to a container of ours; the number means
    /// nothing. Many hints may be one change.
    pub hints: watch::Receiver<u64>,
    /// Which containers the hints were about.
    pub named: Arc<Named>,
    /// How many lines came, also of what is not ours: each shows that the stream lives.
    pub lines: watch::Receiver<u64>,
    /// Whether the stream is open as far as one can see. While it is not, list often.
    pub healthy: watch::Receiver<bool>,
    /// Asks for a new stream, for this one is open and dead.
    pub renew: Arc<Notify>,
}

/// Caddy, as far as the agent needs it.
pub trait Proxy: Send + Sync + 'static {
    /// Makes these the route files in force. Loads first and writes after; does nothing when
    /// they are in force already. A file that does not load is refused alone: the answer names
    /// it, the others are in force. Reloads are coalesced. A file among them that is not ours is
    /// set aside, and named, too.
    fn apply(
        &self,
        routes: &RouteFiles,
    ) -> impl Future<Output = Result<Vec<RefusedRoute>, ProxyError>> + Send;
    /// A TLS handshake for `host` at the edge, so that its certificate is there before the first
    /// visitor. Success means that a certificate for `host` was served.
    fn warm(&self, host: &str) -> impl Future<Output = Result<(), ProxyError>> + Send;
    /// Ends when a glance tells that something else may be in force than what was applied last:
    /// it is worth applying anew. Never ends where nothing can be told so cheaply.
    fn disturbed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
    /// What its administrator should know of what is in force, beside refused routes.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// Requests to `names` that were answered with a server error, as far back as they are written
    /// down, followed from one call to the next. A proxy that writes none down knows of none.
    fn failed_requests(
        &self,
        _names: &Names,
    ) -> impl Future<Output = std::io::Result<Reading>> + Send {
        std::future::ready(Ok(Reading::default()))
    }
    /// Nobody wants to know of failed requests any more.
    fn forget_failed_requests(&self) {}
}

/// What is known of failed requests after a look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// What is known.
    pub requests: FailedRequests,
    /// So much was new, in bytes: many more may be on their way.
    pub bytes: u64,
}

/// Caddy did not do as asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProxyError {
    /// What was tried and what to look at.
    pub message: String,
    /// Why.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// File name (without folder) → text rendered from validated types.
pub type RouteFiles = BTreeMap<String, String>;

/// A route file that is not in force: Caddy would not load it, or it is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRoute {
    /// Its file name.
    pub file: String,
    /// Why: Caddy's words, or what was done with it.
    pub message: String,
}

/// Asks containers for their health.
pub trait Prober: Send + Sync + 'static {
    /// One probe.
    fn probe(
        &self,
        address: SocketAddrV4,
        probe: &Probe,
    ) -> impl Future<Output = ProbeOutcome> + Send;
}

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// An answer that counts as healthy.
    Healthy,
    /// An answer that does not, or the connection was closed before one, with the reason in words,
    /// such as `status 503`. It came promptly: the app's own doing.
    Unhealthy(String),
    /// Nothing came in time, or the host had not left what it takes to ask, with the reason in
    /// words: the app may hang, or its host be short of something.
    TimedOut(String),
    /// Nothing listens at the address. What forwards it accepts before the app does: it is not there.
    Unreachable,
}

/// Who answers for a name: what the resolver process serves to Caddy. Replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct LiveTable {
    /// The zone's name, such as `buddocloud.com`.
    pub zone: String,
    /// Subdomain → where its requests go.
    pub apps: BTreeMap<String, Target>,
    /// Host names of operators, which may have certificates → the subdomain they show.
    pub domains: BTreeMap<String, String>,
}

/// Where the requests of one name go.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Target {
    /// To these addresses, all on the one app port.
    Live {
        /// The live slot's addresses.
        addresses: Vec<Ipv4Addr>,
    },
    /// Held until something is live.
    Hold,
    /// To the page that says the app is stopped.
    Stopped,
    /// To the page that says the app is suspended.
    Suspended,
}

/// Publishes the live table durably and atomically.
pub trait LiveTablePublisher: Send + Sync + 'static {
    /// Makes `table` the one in force: when this returns, new questions get its answers.
    fn publish(&self, table: &LiveTable) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Whether what was published last is still in force, as far as a glance tells: somebody may
    /// have replaced or removed it.
    fn is_in_force(&self) -> impl Future<Output = bool> + Send;
}

/// Where the link hands documents to. Implemented by `intent`.
pub trait Intake: Send + Sync + 'static {
    /// Verifies, persists with fsync, announces; only then answers.
    fn offer(
        &self,
        envelope: bytes::Bytes,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;
}

/// A document that was not accepted. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It does not verify.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// Older than the one held.
    #[error("the document {offered} is older than {held}, which this host holds")]
    Stale {
        /// The offered document's place.
        offered: Generation,
        /// The held document's place.
        held: Generation,
    },
    /// As old as the one held, with other content.
    #[error(
        "the document {0} has other content than the one of the same generation that this host holds"
    )]
    Conflict(Generation),
    /// Expired on arrival.
    #[error("the document expired at {expires_at}, it is {now} here; check both clocks")]
    Expired {
        /// Its end.
        expires_at: Timestamp,
        /// The agent's time.
        now: Timestamp,
    },
    /// Issued later than it is here, by more than clocks may differ.
    #[error(
        "the document was issued at {issued_at}, it is {now} here: the clock of the coordinator \
         or of this host is wrong; set it right (timedatectl on each machine). Until then each \
         document is refused at first, and taken once it is less than 5 minutes ahead"
    )]
    IssuedInFuture {
        /// The coordinator's time.
        issued_at: Timestamp,
        /// The agent's time.
        now: Timestamp,
    },
    /// Whom it says to trust is not usable.
    #[error("whom the document says to trust is not acceptable")]
    Trust(#[from] PinsError),
    /// It could not be made durable; the old one stays in force.
    #[error("the document could not be stored; the old one stays in force")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the link reads reports from. Implemented by `store` and `status`.
pub trait Outbox: Send + Sync + 'static {
    /// A reader begins anew and has committed all up to `after`. If that is less than it once
    /// acknowledged, it lost what it knew (it was restored from a backup): all levels are then
    /// reported once more, under new numbers.
    fn resume(&self, after: u64) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Unacknowledged reports after `seq`, oldest first, at most `limit`.
    fn after(
        &self,
        seq: u64,
        limit: usize,
    ) -> impl Future<Output = std::io::Result<Vec<Report>>> + Send;
    /// Forgets all up to and with `seq`.
    fn acknowledge(&self, seq: u64) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Changes whenever there is a new report: a hint, read with [`after`](Self::after).
    fn changed(&self) -> watch::Receiver<u64>;
    /// Frames that are not kept (progress, checks); a slow reader loses the oldest.
    fn ephemeral(&self) -> tokio::sync::broadcast::Receiver<Frame>;
}
