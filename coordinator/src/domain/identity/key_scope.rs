//! What an API key may do in its team.

use std::fmt;
use std::str::FromStr;

use super::TeamRole;
use super::word_set::WordSet;

/// One permission. Write access does not include read access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyScope {
    /// See the team's deployments.
    DeploymentsRead,
    /// Create, restart, stop and destroy them.
    DeploymentsWrite,
    TemplatesRead,
    /// Change the team's templates.
    TemplatesWrite,
    /// List secrets, never their values.
    SecretsRead,
    SecretsWrite,
}

/// A scope that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a scope of a key; use deployments:read or deployments:write")]
pub struct UnknownKeyScope;

impl KeyScope {
    /// Every scope.
    pub const ALL: [Self; 6] = [
        Self::DeploymentsRead,
        Self::DeploymentsWrite,
        Self::TemplatesRead,
        Self::TemplatesWrite,
        Self::SecretsRead,
        Self::SecretsWrite,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeploymentsRead => "deployments:read",
            Self::DeploymentsWrite => "deployments:write",
            Self::TemplatesRead => "templates:read",
            Self::TemplatesWrite => "templates:write",
            Self::SecretsRead => "secrets:read",
            Self::SecretsWrite => "secrets:write",
        }
    }

    /// Whether any endpoint requires it. The others are parsed for keys of earlier versions, but
    /// not granted: a key must not gain permissions by an upgrade.
    pub const fn is_offered(self) -> bool {
        matches!(self, Self::DeploymentsRead | Self::DeploymentsWrite)
    }

    /// The role needed to do this oneself, and so to grant it to a key.
    pub const fn needs(self) -> TeamRole {
        match self {
            Self::DeploymentsRead | Self::TemplatesRead | Self::SecretsRead => TeamRole::Viewer,
            Self::DeploymentsWrite | Self::SecretsWrite => TeamRole::Developer,
            Self::TemplatesWrite => TeamRole::Admin,
        }
    }
}

impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyScope {
    type Err = UnknownKeyScope;

    fn from_str(text: &str) -> Result<Self, UnknownKeyScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownKeyScope)
    }
}

pub type KeyScopes = WordSet<KeyScope>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_round_trip_as_text() {
        let scopes: KeyScopes = "secrets:read deployments:write secrets:read".parse().unwrap();
        assert_eq!(scopes.to_string(), "deployments:write secrets:read");
        assert!("deploy:manage".parse::<KeyScopes>().is_err());
        for scope in KeyScope::ALL {
            assert_eq!(scope.as_str().parse::<KeyScope>().unwrap(), scope);
            let named = UnknownKeyScope.to_string().contains(scope.as_str());
            assert_eq!(named, scope.is_offered());
        }
    }

    #[test]
    fn write_scopes_need_more_than_the_viewer_role() {
        for scope in KeyScope::ALL {
            let writes = scope.as_str().ends_with(":write");
            assert_eq!(scope.needs() > TeamRole::Viewer, writes, "{scope}");
        }
    }
}
