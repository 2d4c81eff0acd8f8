//! API keys of a team.

use buddo_shared::model::id::{ApiKeyId, TeamId};
use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;
use serde_json::json;

use super::{MAX_KEYS, TeamError, log};
use crate::auth::access::{MemberCheck, TeamGrant};
use crate::auth::token::api_key::ApiKeyText;
use crate::crypto::random;
use crate::domain::identity::{KeyScopes, Label, TeamRole};
use crate::service::accounts::Proved;
use crate::state::AppState;
use crate::store::contract::{AccountAct, ApiKeyRow, MailKind, OrgAct};

const TEAM: &str = "team";

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: Label,
    pub scopes: KeyScopes,
    pub lifetime: SignedDuration,
}

/// A key that was made.
#[derive(Debug)]
pub struct MadeKey {
    pub key: ApiKeyRow,
    /// The key itself; it is not stored.
    pub text: Secret,
}

/// Makes a key, which is shown only once. It can do no more than its maker, who is notified by
/// mail: a key outlives the session it was made with. So a session alone is not enough: `proved`
/// says that its owner has just repeated the password.
pub async fn create_key(
    state: &AppState,
    check: MemberCheck,
    proved: Proved,
    team: TeamId,
    NewKey { name, scopes, lifetime }: NewKey,
) -> Result<MadeKey, TeamError> {
    if proved.account() != check.account() {
        return Err(TeamError::Role("another account was proved; repeat your own".to_owned()));
    }
    let text = ApiKeyText::generate(&*state.random);
    let (id, now) = (ApiKeyId::new(random::uuid(&*state.random)), state.clock.now());
    let (hash, hint) = (text.hashed(), text.hint());
    let key = state
        .store
        .write(move |tables| {
            let grant = check.team(tables, team, TeamRole::Viewer);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            within(&grant, &scopes)?;
            if tables.count_api_keys(team, now)? >= MAX_KEYS {
                return Err(TeamError::Limit { limit: MAX_KEYS, of: "API keys of a team" });
            }
            let account = grant.actor();
            let row = ApiKeyRow {
                id,
                hash,
                team,
                account,
                name: name.to_string(),
                hint: hint.clone(),
                scopes: scopes.clone(),
                created_at: now,
                expires_at: now + lifetime,
                last_used_at: None,
            };
            tables.insert_api_key(&row)?;
            let details = json!({ "api_key": id, "scopes": row.scopes.words() });
            let target = (grant.membership().org.id, Some(team));
            log(tables, target, account, OrgAct::KeyMade, now, Some(details))?;
            let details = json!({ "api_key": id, "team": team });
            tables.insert_account_act(account, AccountAct::ApiKeyMade, now, Some(&details))?;
            tables.queue_mail(account, MailKind::ApiKeyMade, None, now)?;
            Ok::<_, TeamError>(row)
        })
        .await?;
    state.mail_due.notify_one();
    Ok(MadeKey { key, text: text.into_secret() })
}

/// A caller can only grant scopes they have themselves.
fn within(grant: &TeamGrant, scopes: &KeyScopes) -> Result<(), TeamError> {
    match scopes.iter().find(|scope| scope.needs() > grant.role()) {
        None => Ok(()),
        Some(scope) => Err(TeamError::Role(format!(
            "your role in the team is {}, and the scope {scope} takes {}; leave the scope out, or \
             ask an admin of the team",
            grant.role(),
            scope.needs()
        ))),
    }
}

/// The team's keys, newest first: all for its admins; others see only their own.
pub async fn api_keys(
    state: &AppState,
    check: MemberCheck,
    team: TeamId,
) -> Result<Vec<ApiKeyRow>, TeamError> {
    state
        .store
        .read(move |tables| {
            let grant = check.team(tables, team, TeamRole::Viewer);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            let rows = tables.api_keys_of(team)?.into_iter();
            Ok(rows.filter(|row| sees(&grant, row)).collect())
        })
        .await
}

/// Ends a key at once: an admin of the team any key, others only their own.
pub async fn revoke_key(
    state: &AppState,
    check: MemberCheck,
    team: TeamId,
    id: ApiKeyId,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.team(tables, team, TeamRole::Viewer);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            let row = tables.api_key(team, id)?.filter(|row| sees(&grant, row));
            let row = row.ok_or(TeamError::NotFound("API key"))?;
            tables.drop_api_key(id)?;
            let details = json!({ "api_key": id });
            let target = (grant.membership().org.id, Some(team));
            log(tables, target, grant.actor(), OrgAct::KeyRevoked, now, Some(details))?;
            let details = json!({ "api_key": id, "team": team });
            let act = AccountAct::ApiKeyRevoked;
            tables.insert_account_act(row.account, act, now, Some(&details))?;
            Ok(())
        })
        .await
}

fn sees(grant: &TeamGrant, row: &ApiKeyRow) -> bool {
    grant.role() == TeamRole::Admin || row.account == grant.actor()
}
