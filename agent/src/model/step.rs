//! The vocabulary between `plan` and `apply`: one step is one effect.

use std::fmt;

use buddo_shared::id::{DeploymentId, Revision};

use crate::model::container::{Identity, Slot};

/// One effect on the world, for the deployment and revision of its
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
    /// End containers in this slot that run but that Podman has lost.
    EndLost(Slot),
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
            Self::InspectExit(_) => "autopsy",
            Self::Stop(_) => "stop",
            Self::Remove(_) => "remove",
            Self::EndLost(_) => "end_lost",
            Self::FreeAddress(_) => "free_address",
            Self::RemoveSecrets(_) => "remove_secrets",
        }
    }

    /// Whether it removes something unneeded, for no revision in particular.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Stop(_)
            | Self::Remove(_)
            | Self::EndLost(_)
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
    pub fn container(&self, deployment: DeploymentId, revision: Revision) -> Option<String> {
        match self {
            Self::Create(slot) => {
                Some(container_name(&Identity { deployment, revision, slot: *slot }))
            }
            Self::Start(name)
            | Self::Watch(name)
            | Self::InspectExit(name)
            | Self::Stop(name)
            | Self::Remove(name) => Some(name.clone()),
            Self::PutSecrets
            | Self::Image
            | Self::EndLost(_)
            | Self::FreeAddress(_)
            | Self::RemoveSecrets(_) => None,
        }
    }
}

/// Two lanes that do not wait for each other: what serves is restarted while a new revision's image
/// is still being pulled. A deployment has one operation at a time in each lane.
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
            Self::EndLost(slot) => write!(f, "end an orphan in slot {slot:?}"),
            Self::FreeAddress(slot) => write!(f, "free the address of slot {slot:?}"),
            Self::RemoveSecrets(revision) => write!(f, "remove the secrets of r{revision}"),
        }
    }
}

/// The name of the one container that can have this identity.
pub fn container_name(identity: &Identity) -> String {
    let slot = match identity.slot {
        Slot::A => 'a',
        Slot::B => 'b',
    };
    format!("buddo-{}-r{}-{slot}", identity.deployment, identity.revision)
}

/// Whose container this is; `None`: not one of ours.
pub fn container_owner(name: &str) -> Option<Identity> {
    let rest = name.strip_prefix("buddo-")?;
    let (deployment, rest) = rest.split_at_checked(36)?;
    let (revision, slot) = rest.strip_prefix("-r")?.split_once('-')?;
    let slot = match slot {
        "a" => Slot::A,
        "b" => Slot::B,
        _ => return None,
    };
    Some(Identity { deployment: deployment.parse().ok()?, revision: revision.parse().ok()?, slot })
}

/// The prefix of the names of a revision's secrets; a number follows.
pub fn secret_prefix(deployment: DeploymentId, revision: Revision) -> String {
    format!("buddo-{deployment}-r{revision}-")
}

/// Whose secret this is; `None`: not one of ours.
pub fn secret_owner(name: &str) -> Option<(DeploymentId, Revision)> {
    let rest = name.strip_prefix("buddo-")?;
    let (deployment, rest) = rest.split_at_checked(36)?;
    let (revision, number) = rest.strip_prefix("-r")?.split_once('-')?;
    number.parse::<u16>().ok()?;
    Some((deployment.parse().ok()?, revision.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_tells_its_owner_and_foreign_ones_have_none() {
        let deployment = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        for slot in [Slot::A, Slot::B] {
            let identity = Identity { deployment, revision: Revision::new(12), slot };
            let name = container_name(&identity);
            assert_eq!(container_owner(&name), Some(identity));
            assert_eq!(container_owner(&format!("{name}b")), None);
            assert_eq!(container_owner(&name[1..]), None);
        }
        assert_eq!(container_owner("postgres"), None);
    }

    #[test]
    fn a_secret_tells_its_owner_and_foreign_ones_have_none() {
        let id: DeploymentId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let name = format!("{}{}", secret_prefix(id, Revision::new(12)), 3);
        assert_eq!(secret_owner(&name), Some((id, Revision::new(12))));
        assert_eq!(secret_owner("buddo-x"), None);
        assert_eq!(secret_owner(&name[..name.len() - 1]), None);
        assert_eq!(secret_owner("postgres-password"), None);
    }
}
