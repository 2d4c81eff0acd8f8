//! Containers and images as the agent knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;

use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::limits::Limits;
use buddo_shared::model::port::Port;

// A container is told from others by its identity, so both are found here as well.
pub use crate::model::workload::{Identity, Slot};

/// One of our containers, as a list call shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// From its labels; `None` where they are missing or malformed.
    pub identity: Option<Identity>,
    pub state: ContainerState,
    /// Where its port is published.
    pub address: Option<SocketAddrV4>,
    /// Its process, if it runs and the process is known.
    pub process: Option<Process>,
}

/// The first process of a running container. Each start makes a new one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    /// Podman's id of the container.
    pub container: String,
    /// The pid in the host's PID namespace.
    pub pid: u32,
}

/// Podman's states, told apart only as far as they call for different steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Created, or listed as such after a power loss: a start works.
    Created,
    Running,
    /// Ended with this code.
    Exited(i32),
    /// Being stopped; it may be stuck there.
    Stopping,
    /// Paused, removing, unknown or broken: remove it.
    Broken,
}

/// Everything a create call needs.
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
    /// Environment variables set to the empty string: Podman stores no empty secret.
    pub empty_env: BTreeSet<String>,
}

/// Whether create made the container or found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// Made by this call.
    New,
    /// The name was taken: an earlier call made it and its answer was lost. Adopt it.
    Existed,
}

/// The exit code of a process ended by SIGKILL. If the agent did not send it, it was most often the
/// kernel's OOM killer: Podman seldom records that.
pub const KILLED: i32 = 137;

/// How a container ended, for failure messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitInfo {
    pub exit_code: i32,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// The last lines it printed, bounded. May hold whatever the app printed: for its operator
    /// only.
    pub log_tail: String,
}

/// What a repair of Podman's secrets found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mended {
    /// The secrets were damaged.
    pub changed: bool,
    /// Damaged files kept aside, from this repair or earlier ones: they may hold other people's
    /// secrets.
    pub aside: Vec<PathBuf>,
}

/// An image in Podman's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Podman's id: the same bytes under several names are one image.
    pub id: String,
    /// All its names: tags, and digests of the repositories that it came from.
    pub names: Vec<ImageReference>,
    /// Names it had once: the tag has since moved to another image.
    pub former: Vec<ImageReference>,
    /// Digest of its manifest: all that Podman reports on the origin of an image without a name.
    pub digest: Option<Digest>,
    /// It has, or had, a name that no registry can have given it.
    pub foreign: bool,
    /// Unpacked size, including layers shared with other images.
    pub bytes: u64,
    /// A container uses it, even a stopped one or one that is not ours.
    pub in_use: bool,
}
