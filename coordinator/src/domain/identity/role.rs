//! Roles in organisations and teams.

use std::fmt;
use std::str::FromStr;

/// A role in an organisation. Each includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrgRole {
    /// See it and its members, and be in teams.
    Member,
    /// Invite and remove members, make teams, and be an admin in each of them.
    Admin,
    /// Act on admins and owners as well, and end the organisation.
    Owner,
}

/// A role in a team. Each includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TeamRole {
    Viewer,
    Developer,
    /// Choose who is in it, and see every key.
    Admin,
}

/// A text that is not a role of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a role; use {0}")]
pub struct UnknownRole(&'static str);

impl OrgRole {
    const ALL: [Self; 3] = [Self::Owner, Self::Admin, Self::Member];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "org_owner",
            Self::Admin => "org_admin",
            Self::Member => "org_member",
        }
    }

    /// Whether a holder of this role may grant `other`, or act on a holder of it: an owner always,
    /// the others only on lower roles.
    pub fn rules(self, other: Self) -> bool {
        self == Self::Owner || self > other
    }
}

impl TeamRole {
    const ALL: [Self; 3] = [Self::Admin, Self::Developer, Self::Viewer];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "team_admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }
}

/// The effective role in a team: owners and admins of the organisation are admins, other members
/// have their team role.
pub fn effective(org: Option<OrgRole>, team: Option<TeamRole>) -> Option<TeamRole> {
    match org? {
        OrgRole::Owner | OrgRole::Admin => Some(TeamRole::Admin),
        OrgRole::Member => team,
    }
}

impl fmt::Display for OrgRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TeamRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrgRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or(UnknownRole("org_owner, org_admin or org_member"))
    }
}

impl FromStr for TeamRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or(UnknownRole("team_admin, developer or viewer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_round_trip_as_text() {
        for role in OrgRole::ALL {
            assert_eq!(role.as_str().parse::<OrgRole>().unwrap(), role);
            assert!("".parse::<OrgRole>().unwrap_err().to_string().contains(role.as_str()));
        }
        for role in TeamRole::ALL {
            assert_eq!(role.as_str().parse::<TeamRole>().unwrap(), role);
            assert!("".parse::<TeamRole>().unwrap_err().to_string().contains(role.as_str()));
        }
        assert!("team_admin".parse::<OrgRole>().is_err());
    }

    #[test]
    fn only_an_owner_can_manage_its_own_rank() {
        for (role, rules) in [
            (OrgRole::Owner, [true, true, true]),
            (OrgRole::Admin, [false, false, true]),
            (OrgRole::Member, [false, false, false]),
        ] {
            assert_eq!(OrgRole::ALL.map(|other| role.rules(other)), rules, "{role}");
        }
    }

    #[test]
    fn a_team_role_needs_organisation_membership() {
        let viewer = Some(TeamRole::Viewer);
        assert_eq!(effective(None, viewer), None);
        assert_eq!(effective(Some(OrgRole::Member), None), None);
        assert_eq!(effective(Some(OrgRole::Member), viewer), viewer);
        assert_eq!(effective(Some(OrgRole::Admin), viewer), Some(TeamRole::Admin));
        assert_eq!(effective(Some(OrgRole::Owner), None), Some(TeamRole::Admin));
    }
}
