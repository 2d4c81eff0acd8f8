//! Invitations by mail.
//!
//! ```text
//! invite ─► invitations (no token) ─ same transaction ─► mail queue ─► token made, hash kept, sent
//! accept: token + the account with the invited confirmed address ─► member; invitation deleted
//! ```

use buddo_shared::model::id::{AccountId, InvitationId, OrgId, TeamId};
use jiff::Timestamp;
use serde_json::json;

use super::members::rules;
use super::orgs::shared;
use super::{MAX_MEMBERS, OrgWithRole, TeamError, log};
use crate::auth::access::MemberCheck;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::crypto::random;
use crate::domain::identity::{Email, HashedToken, OrgRole, TeamRole};
use crate::domain::mailed_link::INVITATION;
use crate::state::AppState;
use crate::store::Tables;
use crate::store::contract::{Account, InvitationRow, OrgAct, OrgRow};

const ORG: &str = "organisation";

/// What an invitation offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub org: OrgRow,
    /// The role in it.
    pub role: OrgRole,
    /// The role in a team of it.
    pub team_role: Option<TeamRole>,
}

/// Whom to invite, and to what.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    pub email: Email,
    pub role: OrgRole,
    /// A team of the organisation, and the role in it.
    pub team: Option<(TeamId, TeamRole)>,
}

/// Invites someone and queues the mail. An earlier invitation of the same address is replaced.
pub async fn invite(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
    NewInvitation { email, role, team }: NewInvitation,
) -> Result<InvitationRow, TeamError> {
    let (new, now) = (InvitationId::new(random::uuid(&*state.random)), state.clock.now());
    let made = state
        .store
        .write(move |tables| {
            let grant = check.org(tables, id, OrgRole::Admin).map_err(TeamError::refused(ORG))?;
            shared(grant.org())?;
            rules(&grant, role)?;
            confirmed(tables, grant.actor())?;
            if let Some((team, _)) = team {
                let membership = tables.membership(grant.actor(), team)?;
                if membership.is_none_or(|membership| membership.org.id != id) {
                    let detail = "is not a team of the organisation";
                    return Err(TeamError::field("/teamId", detail));
                }
            }
            if let Some(known) = tables.account_by_email(&email)?
                && tables.org_role(id, known.id)?.is_some()
            {
                return Err(TeamError::field("/email", "already belongs to a member"));
            }
            let waiting = tables.invitations_to(id, now)?.len();
            let members = u64::from(tables.count_members(id)?) + waiting as u64;
            if members >= u64::from(MAX_MEMBERS) {
                return Err(TeamError::Limit { limit: MAX_MEMBERS, of: "members and invitations" });
            }
            let row = InvitationRow {
                id: new,
                org: id,
                email: email.clone(),
                role,
                team,
                invited_by: grant.actor(),
                created_at: now,
                expires_at: now + INVITATION.duration(),
            };
            tables.insert_invitation(&row)?;
            tables.queue_invitation(row.invited_by, &row.email, new, now)?;
            let details = json!({ "invitation": new, "role": role.as_str() });
            let target = (id, team.map(|(team, _)| team));
            log(tables, target, grant.actor(), OrgAct::Invited, now, Some(details))?;
            Ok::<_, TeamError>(row)
        })
        .await?;
    state.mail_due.notify_one();
    Ok(made)
}

/// The pending invitations, newest first.
pub async fn invitations(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
) -> Result<Vec<InvitationRow>, TeamError> {
    let now = state.clock.now();
    state
        .store
        .read(move |tables| {
            check.org(tables, id, OrgRole::Admin).map_err(TeamError::refused(ORG))?;
            Ok(tables.invitations_to(id, now)?)
        })
        .await
}

/// Revokes one: its link is void.
pub async fn revoke_invitation(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
    invitation: InvitationId,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.org(tables, id, OrgRole::Admin).map_err(TeamError::refused(ORG))?;
            let found = tables.invitation(invitation)?.filter(|row| row.org == id);
            let row = found.ok_or(TeamError::NotFound("invitation"))?;
            rules(&grant, row.role)?;
            tables.drop_invitation(invitation)?;
            let details = json!({ "invitation": invitation });
            let act = OrgAct::InvitationRevoked;
            log(tables, (id, None), grant.actor(), act, now, Some(details))?;
            Ok(())
        })
        .await
}

/// What a token's invitation offers to the account; refused for the same reasons as by [`accept`].
pub async fn offered(
    state: &AppState,
    check: MemberCheck,
    token: &str,
) -> Result<Offer, TeamError> {
    let (hash, now) = (hashed(token)?, state.clock.now());
    state
        .store
        .read(move |tables| {
            let (row, org, _) = open(tables, check.account(), &hash, now)?;
            Ok(Offer { org, role: row.role, team_role: row.team.map(|(_, role)| role) })
        })
        .await
}

/// Accepts an invitation, once.
pub async fn accept(
    state: &AppState,
    check: MemberCheck,
    token: &str,
) -> Result<OrgWithRole, TeamError> {
    let (hash, now) = (hashed(token)?, state.clock.now());
    state
        .store
        .write(move |tables| {
            let (row, org, account) = open(tables, check.account(), &hash, now)?;
            let id = org.id;
            // An existing member keeps at least the current role.
            let role = tables.org_role(id, account.id)?.map_or(row.role, |had| had.max(row.role));
            tables.set_org_role(id, account.id, role, now)?;
            if let Some((team, team_role)) = row.team {
                let had = tables
                    .membership(account.id, team)?
                    .and_then(|membership| membership.team_role);
                let team_role = had.map_or(team_role, |had| had.max(team_role));
                tables.set_team_role(team, account.id, team_role, now)?;
            }
            tables.drop_invitation(row.id)?;
            let details = json!({ "invitation": row.id, "role": role.as_str() });
            let target = (id, row.team.map(|(team, _)| team));
            log(tables, target, account.id, OrgAct::MemberJoined, now, Some(details))?;
            Ok((org, role))
        })
        .await
}

fn hashed(token: &str) -> Result<HashedToken, TeamError> {
    let token = PlainToken::parse(PlainTokenKind::Invitation, token.trim());
    Ok(token.ok_or(TeamError::SpentInvitation)?.hashed())
}

/// The invitation behind a token, for the invited account. The inviter must still be able to
/// invite: the promise ends with their role.
fn open(
    tables: &dyn Tables,
    account: AccountId,
    hash: &HashedToken,
    now: Timestamp,
) -> Result<(InvitationRow, OrgRow, Account), TeamError> {
    let row = tables.invitation_by_token(hash)?.filter(|row| now < row.expires_at);
    let row = row.ok_or(TeamError::SpentInvitation)?;
    let org = tables.org(row.org)?.ok_or(TeamError::SpentInvitation)?;
    let inviter = tables.org_role(row.org, row.invited_by)?;
    if !inviter.is_some_and(|role| role >= OrgRole::Admin && role.rules(row.role)) {
        return Err(TeamError::SpentInvitation);
    }
    let account = confirmed(tables, account)?;
    if account.email.key() != row.email.key() {
        return Err(TeamError::OtherAddress);
    }
    Ok((row, org, account))
}

/// The account, if its address is confirmed.
pub(super) fn confirmed(tables: &dyn Tables, id: AccountId) -> Result<Account, TeamError> {
    let account = tables.account(id)?.ok_or(TeamError::NotFound("account"))?;
    if account.email_verified_at.is_none() {
        return Err(TeamError::EmailUnverified);
    }
    Ok(account)
}
