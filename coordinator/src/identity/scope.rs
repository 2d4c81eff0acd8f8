//! What an app may do for an account.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read the profile.
    ProfileRead,
    /// Read the points balance.
    PointsRead,
    /// Spend points.
    PointsSpend,
    /// Create, stop, restart and destroy deployments.
    DeployManage,
    /// Read the app's own balance.
    AppBalanceRead,
    /// Manage organisations, teams and API keys. For Buddo's own command line alone: keys outlive
    /// what they were made with.
    TeamsManage,
}

/// A scope that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "names a scope that does not exist; use profile:read, points:read, points:spend, deploy:manage or app:balance:read"
)]
pub struct UnknownScope;

impl Scope {
    /// Every scope.
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

    /// What the consent page says.
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

    /// Whether only Buddo's own command line may ask for it.
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::TeamsManage)
    }

    /// Whether an app that asks for nothing else may serve anybody at once.
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

/// A set of permissions; its text is the words in order, with a space between (RFC 6749, 3.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Every scope that apps may ask for.
    pub fn of_apps() -> Self {
        Scope::ALL.into_iter().filter(|scope| !scope.is_reserved()).collect()
    }

    /// Whether it holds `scope`.
    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Whether all of it is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its members, in order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }

    /// Its words.
    pub fn words(&self) -> Vec<String> {
        self.iter().map(|scope| scope.as_str().to_owned()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::parse).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_set_are_one() {
        let scopes: Scopes = "deploy:manage  profile:read deploy:manage".parse().unwrap();
        assert_eq!(scopes.to_string(), "profile:read deploy:manage");
        assert!(scopes.is_subset(&Scopes::of_apps()));
        assert!("deploy:manage deploy:everything".parse::<Scopes>().is_err());
        assert!("".parse::<Scopes>().unwrap().is_empty());
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse::<Scope>().unwrap(), scope);
            assert_eq!(UnknownScope.to_string().contains(scope.as_str()), !scope.is_reserved());
        }
    }
}
