//! Pending invitations to organisations.

use buddo_shared::model::id::{AccountId, InvitationId, OrgId, TeamId};
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::{Email, HashedToken, OrgRole, TeamRole};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationRow {
    pub id: InvitationId,
    pub org: OrgId,
    /// The invited address.
    pub email: Email,
    /// Role in the organisation.
    pub role: OrgRole,
    /// A team to join at once, and the role there.
    pub team: Option<(TeamId, TeamRole)>,
    pub invited_by: AccountId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

pub trait Invitations {
    /// Stores an invitation, replacing an earlier one to the same address.
    fn insert_invitation(&mut self, invitation: &InvitationRow) -> Result<()>;
    /// The invitation with this id.
    fn invitation(&self, id: InvitationId) -> Result<Option<InvitationRow>>;
    /// The invitation whose mail contained this token.
    fn invitation_by_token(&self, hash: &HashedToken) -> Result<Option<InvitationRow>>;
    /// The organisation's invitations that are valid at `now`, newest first.
    fn invitations_to(&self, org: OrgId, now: Timestamp) -> Result<Vec<InvitationRow>>;
    /// Stores the token of its mail, replacing an earlier one.
    fn set_invitation_token(&mut self, id: InvitationId, hash: &HashedToken) -> Result<()>;
    /// Deletes an invitation, revoked or used; returns whether it existed.
    fn drop_invitation(&mut self, id: InvitationId) -> Result<bool>;
    /// Deletes invitations that expired by `now`, at most `most`; returns how many.
    fn purge_invitations(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
