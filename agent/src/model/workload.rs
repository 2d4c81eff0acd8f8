//! What one container is for, and how it is told from all others.
//!
//! ```text
//! deployment ─► service ─► replica ─► revision ─► slot
//! └─────── WorkloadId ───────────┘
//! └───────────────── Identity ──────────────────────┘
//! ```

use std::fmt;
use std::str::FromStr;

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::workload::{ReplicaIndex, ServiceName};
use serde::{Deserialize, Serialize};

/// One of the two places a workload's containers can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// Its letter in names and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// A text that is not a [`Slot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a slot; it is a or b")]
pub struct SlotError;

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        [Self::A, Self::B].into_iter().find(|slot| slot.as_str() == text).ok_or(SlotError)
    }
}

/// What the agent plans for, one at a time: one replica of one service. It serves from one
/// container, and has a second one while it is being replaced.
///
/// In order of deployment, service and replica, so that those of a deployment are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId {
    /// Label `buddo.deployment`.
    pub deployment: DeploymentId,
    /// Label `buddo.service`.
    pub service: ServiceName,
    /// Label `buddo.replica`.
    pub replica: ReplicaIndex,
}

/// A text that is not a [`WorkloadId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a workload; write deployment/service/replica, such as 550e8400-e29b-41d4-a716-446655440000/app/0"
)]
pub struct WorkloadIdError;

impl WorkloadId {
    /// The only workload of an app that consists of a single container.
    pub const fn app(deployment: DeploymentId) -> Self {
        Self { deployment, service: ServiceName::APP, replica: ReplicaIndex::FIRST }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deployment, service, replica } = self;
        write!(f, "{deployment}/{service}/{replica}")
    }
}

impl FromStr for WorkloadId {
    type Err = WorkloadIdError;

    fn from_str(text: &str) -> Result<Self, WorkloadIdError> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().ok_or(WorkloadIdError);
        let (deployment, service, replica) = (part()?, part()?, part()?);
        let id = Self {
            deployment: deployment.parse().map_err(|_| WorkloadIdError)?,
            service: service.parse().map_err(|_| WorkloadIdError)?,
            replica: replica.parse().map_err(|_| WorkloadIdError)?,
        };
        // One spelling: the text is a key of the database.
        if id.to_string() == text { Ok(id) } else { Err(WorkloadIdError) }
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = WorkloadIdError;

    fn try_from(text: String) -> Result<Self, WorkloadIdError> {
        text.parse()
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.to_string()
    }
}

/// The identity that a container's labels state; its name follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub workload: WorkloadId,
    /// Label `buddo.revision`: the one that introduced the content of the service, not the
    /// deployment's.
    pub revision: Revision,
    /// Label `buddo.slot`.
    pub slot: Slot,
}

/// The name of the one container that can have this identity.
pub fn container_name(identity: &Identity) -> String {
    let Identity { workload, revision, slot } = identity;
    format!("{}r{revision}-{}", prefix(workload), slot.as_str())
}

/// Whose container this is; `None`: not one of ours.
pub fn container_owner(name: &str) -> Option<Identity> {
    let (rest, slot) = name.rsplit_once('-')?;
    let (workload, revision) = owner(rest)?;
    let identity = Identity { workload, revision, slot: slot.parse().ok()? };
    (container_name(&identity) == name).then_some(identity)
}

/// The prefix of the names of a revision's secrets; a number follows. Each replica has its own, so
/// that they can be removed with it: nobody has to know which others still need them.
pub fn secret_prefix(workload: WorkloadId, revision: Revision) -> String {
    format!("{}r{revision}-", prefix(&workload))
}

/// Whose secret this is; `None`: not one of ours.
pub fn secret_owner(name: &str) -> Option<(WorkloadId, Revision)> {
    let (rest, number) = name.rsplit_once('-')?;
    let (workload, revision) = owner(rest)?;
    let number: u16 = number.parse().ok()?;
    let expected = format!("{}{number}", secret_prefix(workload, revision));
    (expected == name).then_some((workload, revision))
}

fn prefix(workload: &WorkloadId) -> String {
    let WorkloadId { deployment, service, replica } = workload;
    format!("buddo-{deployment}-{service}-{replica}-")
}

/// From `buddo-DEPLOYMENT-SERVICE-REPLICA-rREVISION`, from the right: a service's name may contain
/// hyphens. Accepts spellings that are never written; the callers compare with what would be.
fn owner(name: &str) -> Option<(WorkloadId, Revision)> {
    let (rest, revision) = name.rsplit_once("-r")?;
    let (rest, replica) = rest.rsplit_once('-')?;
    let (deployment, service) = rest.strip_prefix("buddo-")?.split_at_checked(36)?;
    let workload = WorkloadId {
        deployment: deployment.parse().ok()?,
        service: service.strip_prefix('-')?.parse().ok()?,
        replica: replica.parse().ok()?,
    };
    Some((workload, revision.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn workload(service: &str, replica: u16) -> WorkloadId {
        WorkloadId {
            deployment: ID.parse().unwrap(),
            service: service.parse().unwrap(),
            replica: ReplicaIndex::new(replica),
        }
    }

    #[test]
    fn names_state_the_whole_identity() {
        let identity =
            Identity { workload: workload("web-1", 2), revision: Revision::new(12), slot: Slot::B };
        let name = format!("buddo-{ID}-web-1-2-r12-b");
        assert_eq!(container_name(&identity), name);
        assert_eq!(container_owner(&name), Some(identity));
        let secret = format!("{}3", secret_prefix(identity.workload, identity.revision));
        assert_eq!(secret, format!("buddo-{ID}-web-1-2-r12-3"));
        assert_eq!(secret_owner(&secret), Some((identity.workload, identity.revision)));
    }

    #[test]
    fn foreign_names_have_no_owner() {
        let name = format!("buddo-{ID}-app-0-r12-b");
        assert!(container_owner(&name).is_some());
        for foreign in [
            "postgres".to_owned(),
            String::new(),
            name[1..].to_owned(),
            format!("{name}b"),
            name.replace("-b", "-c"),
            name.replace("-0-", "-00-"),
            name.replace("-r12", "-r+12"),
            name.replace("-r12", "-r012"),
            name.replace("-app", ""),
            name.replace("-app", "-App"),
            name.replace(ID, &ID.to_uppercase()),
            // As agents named their containers before there were services.
            format!("buddo-{ID}-r12-b"),
        ] {
            assert_eq!(container_owner(&foreign), None, "{foreign}");
        }
        for foreign in ["postgres-password", "buddo-x", &format!("buddo-{ID}-app-0-r12-")] {
            assert_eq!(secret_owner(foreign), None, "{foreign}");
        }
        assert_eq!(secret_owner(&format!("buddo-{ID}-r12-3")), None);
        assert_eq!(secret_owner(&format!("buddo-{ID}-app-0-r12-+3")), None);
    }

    #[test]
    fn a_workload_has_one_spelling() {
        let id = workload("app", 0);
        assert_eq!(id.to_string(), format!("{ID}/app/0"));
        assert_eq!(id, WorkloadId::app(id.deployment));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{ID}/app/0\""));
        for text in [
            ID.to_owned(),
            format!("{ID}/app"),
            format!("{ID}/app/00"),
            format!("{ID}/app/0/1"),
            format!("{ID}//0"),
            format!("{}/app/0", ID.to_uppercase()),
        ] {
            assert_eq!(text.parse::<WorkloadId>(), Err(WorkloadIdError), "{text}");
        }
    }

    fn any_identity() -> impl Strategy<Value = Identity> {
        // Names that look like the parts that follow them.
        let service = prop_oneof!["[a-z]([a-z0-9-]{0,18}[a-z0-9])?", "a-[0-9]-r[0-9]-[ab]"];
        (any::<u128>(), service, any::<u16>(), any::<u32>(), any::<bool>()).prop_map(
            |(id, service, replica, revision, b)| Identity {
                workload: WorkloadId {
                    deployment: DeploymentId::new(Uuid::from_u128(id)),
                    service: service.parse().unwrap(),
                    replica: ReplicaIndex::new(replica),
                },
                revision: Revision::new(revision),
                slot: if b { Slot::B } else { Slot::A },
            },
        )
    }

    proptest! {
        #[test]
        fn every_name_leads_back_to_its_owner(identity in any_identity(), number in any::<u16>()) {
            let Identity { workload, revision, .. } = identity;
            prop_assert_eq!(container_owner(&container_name(&identity)), Some(identity));
            let secret = format!("{}{number}", secret_prefix(workload, revision));
            prop_assert_eq!(secret_owner(&secret), Some((workload, revision)));
            prop_assert_eq!(workload.to_string().parse(), Ok(workload));
        }

        #[test]
        fn no_text_has_an_owner_that_would_not_be_named_so(
            // Nearly what is written, with other spellings of the numbers.
            rest in "(app|a-1-r2)-0?[0-9]-r[+0]?[0-9]{1,2}-(a|b|[+0]?[0-9])",
        ) {
            let text = format!("buddo-{ID}-{rest}");
            if let Some(identity) = container_owner(&text) {
                prop_assert_eq!(container_name(&identity), text);
            } else if let Some((workload, revision)) = secret_owner(&text) {
                let number = text.strip_prefix(&secret_prefix(workload, revision)).unwrap();
                prop_assert_eq!(number.parse::<u16>().unwrap().to_string(), number);
            }
        }
    }
}
