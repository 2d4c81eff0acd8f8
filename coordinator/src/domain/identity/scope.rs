//! What an app may do for an account.

use std::fmt;
use std::str::FromStr;

use super::word_set::WordSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    ProfileRead,
    /// Read the points balance.
    PointsRead,
    PointsSpend,
    /// Create, stop, restart and destroy deployments.
    DeployManage,
    /// Read the app's own balance.
    AppBalanceRead,
    /// Manage organisations, teams and API keys. Only for Buddo's own command line: keys outlive
    /// the token they were made with.
    TeamsManage,
}

/// A scope that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("names a scope that does not exist; use profile:read or deploy:manage")]
pub struct UnknownScope;

impl Scope {
    pub const ALL: [Self; 6] = [
        Self::ProfileRead,
        Self::PointsRead,
        Self::PointsSpend,
        Self::DeployManage,
        Self::AppBalanceRead,
        Self::TeamsManage,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProfileRead => "profile:read",
            Self::PointsRead => "points:read",
            Self::PointsSpend => "points:spend",
            Self::DeployManage => "deploy:manage",
            Self::AppBalanceRead => "app:balance:read",
            Self::TeamsManage => "teams:manage",
        }
    }

    /// The text on the consent page.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::ProfileRead => "See your username and profile",
            Self::PointsRead => "See your Buddo points balance",
            Self::PointsSpend => "Spend your Buddo points",
            Self::DeployManage => "Create, stop, restart and permanently destroy your deployments",
            Self::AppBalanceRead => "See the balance of the app itself",
            Self::TeamsManage => "Manage your organisations, teams and API keys",
        }
    }

    #[cfg(test)]
    pub(crate) fn all_of_them() -> Scopes {
        Self::ALL.into_iter().collect()
    }

    /// Whether any endpoint requires it. The others are parsed, since the published pages name
    /// them, and kept with the app that asked; but no user is asked for them and no token has them,
    /// so that nobody grants today what takes effect only later.
    pub const fn is_offered(self) -> bool {
        matches!(self, Self::ProfileRead | Self::DeployManage | Self::TeamsManage)
    }

    /// Whether it is reserved for Buddo's own command line.
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::TeamsManage)
    }

    /// Whether an app that asks for nothing else needs no approval.
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::ProfileRead | Self::PointsRead)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

pub type Scopes = WordSet<Scope>;

impl Scopes {
    /// Every scope offered to apps.
    pub fn of_apps() -> Self {
        let offered = |scope: &Scope| scope.is_offered() && !scope.is_reserved();
        Scope::ALL.into_iter().filter(offered).collect()
    }

    /// Those of them that an endpoint requires.
    #[must_use]
    pub fn offered(&self) -> Self {
        self.iter().filter(|scope| scope.is_offered()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_round_trip_as_text() {
        let scopes: Scopes = "deploy:manage  profile:read deploy:manage".parse().unwrap();
        assert_eq!(scopes.to_string(), "profile:read deploy:manage");
        assert!(scopes.is_subset(&Scopes::of_apps()));
        assert!("deploy:manage deploy:everything".parse::<Scopes>().is_err());
        assert!("".parse::<Scopes>().unwrap().is_empty());
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse::<Scope>().unwrap(), scope);
            let named = UnknownScope.to_string().contains(scope.as_str());
            assert_eq!(named, Scopes::of_apps().contains(scope));
        }
    }
}
