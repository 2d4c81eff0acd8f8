//! Which deployment a command is about: an id or a name.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use buddo_shared::model::id::DeploymentId;

/// An id, or the name of a deployment. Text in the form of an id is taken as an id: a subdomain
/// of 36 characters cannot exist, so there is no ambiguity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Id(DeploymentId),
    /// By name. Not validated: a name that cannot exist is simply not found.
    Name(String),
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Id))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised_by_their_form() {
        let id = "550e8400-e29b-41d4-a716-446655440000";
        assert!(matches!(id.parse(), Ok(Target::Id(_))));
        assert_eq!("my-app".parse(), Ok(Target::Name("my-app".to_owned())));
        assert_eq!(Target::Name("my-app".to_owned()).to_string(), "my-app");
    }
}
