//! Identifiers. Each is a separate type, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The CLI's client id: a built-in public client (RFC 6749, 2.1).
pub const CLI_CLIENT_ID: &str = "buddo-cli";

/// A text that is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not an identifier; use the 36-character form, such as 550e8400-e29b-41d4-a716-446655440000"
)]
pub struct IdError;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an identifier generated or stored elsewhere.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The plain UUID.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only the hyphenated form: an identifier has one spelling in logs and labels.
                match Uuid::try_parse(text) {
                    Ok(uuid) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(Self(uuid)),
                    _ => Err(IdError),
                }
            }
        }
    };
}

uuid_newtype!(
    /// One deployment: a subdomain's app from create to destroy.
    DeploymentId
);
uuid_newtype!(
    /// The application that successive deployments of one subdomain belong to.
    AppId
);
uuid_newtype!(
    /// One container host.
    HostId
);
uuid_newtype!(
    /// One account.
    AccountId
);
uuid_newtype!(
    /// One organisation.
    OrgId
);
uuid_newtype!(
    /// One team of an organisation.
    TeamId
);
uuid_newtype!(
    /// One API key.
    ApiKeyId
);
uuid_newtype!(
    /// One invitation to an organisation.
    InvitationId
);

/// The deployment has used up its revision numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deployment has used up all revision numbers; destroy it and create it again")]
pub struct LastRevision;

/// The number of an immutable revision of a deployment, from 1; image, environment, port,
/// domains and probe of a revision never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u32);

impl Revision {
    /// The revision made by a create.
    pub const FIRST: Self = Self(1);

    /// Wraps a stored number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The plain number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next revision; an error after the last possible number.
    pub const fn next(self) -> Result<Self, LastRevision> {
        match self.0.checked_add(1) {
            Some(number) => Ok(Self(number)),
            None => Err(LastRevision),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The order of one host's desired-state documents. Compared epoch first: a coordinator restored
/// from a backup raises its epoch, so that its lower generations still win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Rises when the coordinator is restored from a backup.
    pub epoch: u64,
    /// Rises with each change of the host's desired state.
    pub generation: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hyphenated_ids_are_accepted() {
        let text = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(text.parse::<DeploymentId>().unwrap().to_string(), text);
        assert!("550e8400e29b41d4a716446655440000".parse::<DeploymentId>().is_err());
        assert!("{550e8400-e29b-41d4-a716-446655440000}".parse::<DeploymentId>().is_err());
    }

    #[test]
    fn the_last_revision_has_no_successor() {
        assert_eq!(Revision::FIRST.next(), Ok(Revision::new(2)));
        assert_eq!(Revision::new(u32::MAX).next(), Err(LastRevision));
    }

    #[test]
    fn a_higher_epoch_wins_over_any_generation() {
        let old = Generation { epoch: 1, generation: u64::MAX };
        assert!(Generation { epoch: 2, generation: 1 } > old);
    }
}
