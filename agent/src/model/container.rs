//! Containers and images as the agent knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;

use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::limits::Limits;
use buddo_shared::port::Port;

/// One of the two places a deployment's containers can be in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    A,
    B,
}

impl Slot {
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
    pub name: String,
    /// What its labels say; `None` where they are missing or malformed.
    pub identity: Option<Identity>,
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
    pub identity: Identity,
    /// The image, pinned by digest.
    pub image: ImageReference,
    /// Where to publish the port on the host.
    pub address: SocketAddrV4,
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

/// The exit code of a process that SIGKILL ended. Where the agent sent none, it is most often the
/// kernel's, for memory: Podman seldom notes that.
pub const KILLED: i32 = 137;

/// How a container ended, for the words of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitInfo {
    pub exit_code: i32,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// The last lines it printed, bounded. May hold what the app chose to print: for its
    /// operator only.
    pub log_tail: String,
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
