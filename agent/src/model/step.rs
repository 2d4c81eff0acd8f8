//! The vocabulary between `plan` and `apply`: one step is one effect.

use std::fmt;

use buddo_shared::model::id::Revision;

use crate::model::workload::{Identity, Slot, WorkloadId, container_name};

/// One effect on the world, for the workload and revision of its
/// [`Operation`](crate::reconcile::executor::Operation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Store the revision's environment as Podman secrets.
    PutSecrets,
    /// Pull the revision's image if needed and learn its digest.
    Image,
    /// Create the container in this slot.
    Create(Slot),
    /// Start the container of this name.
    Start(String),
    /// Start probing it as a new container.
    Watch(String),
    /// Learn how it ended.
    InspectExit(String),
    /// End it: SIGTERM, grace, SIGKILL.
    Stop(String),
    /// Remove it by force.
    Remove(String),
    /// End orphans in this slot: containers that run but that Podman no longer knows.
    EndOrphans(Slot),
    /// End the process that forwards this slot's address if no container known to Podman is there.
    FreeAddress(Slot),
    /// Remove the secrets of a revision.
    RemoveSecrets(Revision),
}

impl Step {
    /// One word for its kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::PutSecrets => "put_secrets",
            Self::Image => "image",
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::Watch(_) => "watch",
            Self::InspectExit(_) => "inspect_exit",
            Self::Stop(_) => "stop",
            Self::Remove(_) => "remove",
            Self::EndOrphans(_) => "end_orphans",
            Self::FreeAddress(_) => "free_address",
            Self::RemoveSecrets(_) => "remove_secrets",
        }
    }

    /// Whether it removes something unneeded, for no revision in particular.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Stop(_)
            | Self::Remove(_)
            | Self::EndOrphans(_)
            | Self::FreeAddress(_)
            | Self::RemoveSecrets(_) => true,
            Self::PutSecrets
            | Self::Image
            | Self::Create(_)
            | Self::Start(_)
            | Self::Watch(_)
            | Self::InspectExit(_) => false,
        }
    }

    /// Whether Podman emits an event once it is done.
    pub fn is_event(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Stop(_) | Self::Remove(_))
    }

    /// The container that it makes, changes or inspects for `revision`.
    pub fn container(&self, workload: WorkloadId, revision: Revision) -> Option<String> {
        match self {
            Self::Create(slot) => {
                Some(container_name(&Identity { workload, revision, slot: *slot }))
            }
            Self::Start(name)
            | Self::Watch(name)
            | Self::InspectExit(name)
            | Self::Stop(name)
            | Self::Remove(name) => Some(name.clone()),
            Self::PutSecrets
            | Self::Image
            | Self::EndOrphans(_)
            | Self::FreeAddress(_)
            | Self::RemoveSecrets(_) => None,
        }
    }
}

/// Two lanes that do not wait for each other: what serves is restarted while a new revision's image
/// is still being pulled. A workload has one operation at a time in each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Keeping what serves running.
    Serve,
    /// Rolling out a new container, removing old ones.
    Roll,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutSecrets => f.write_str("store the environment"),
            Self::Image => f.write_str("have the image"),
            Self::Create(slot) => write!(f, "create a container in slot {slot:?}"),
            Self::Start(name) => write!(f, "start {name}"),
            Self::Watch(name) => write!(f, "probe {name}"),
            Self::InspectExit(name) => write!(f, "ask how {name} ended"),
            Self::Stop(name) => write!(f, "stop {name}"),
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::EndOrphans(slot) => write!(f, "end orphans in slot {slot:?}"),
            Self::FreeAddress(slot) => write!(f, "free the address of slot {slot:?}"),
            Self::RemoveSecrets(revision) => write!(f, "remove the secrets of r{revision}"),
        }
    }
}
