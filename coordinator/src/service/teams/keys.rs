//! API keys of a team.

use buddo_shared::api::problem::FieldError;
use buddo_shared::api::teams::{ApiKey, CreateKey, KeyCreated};
use buddo_shared::id::{ApiKeyId, TeamId};
use jiff::SignedDuration;
use serde_json::json;

use super::{MAX_KEYS, TeamError, log, view};
use crate::auth::access::{MemberCheck, TeamGrant};
use crate::auth::token::api_key::ApiKeyText;
use crate::crypto::random;
use crate::domain::identity::{KeyScope, KeyScopes, Label, TeamRole, UnknownKeyScope};
use crate::service::accounts::Proved;
use crate::state::AppState;
use crate::store::contract::{AccountAct, ApiKeyRow, MailKind, OrgAct};

const TEAM: &str = "team";
/// Default lifetime of a key in days.
const DAYS: i64 = 90;
/// Maximum lifetime: a key that nobody renews is one that nobody misses.
const MOST_DAYS: i64 = 365;

/// A request with valid fields.
struct Parsed {
    name: Label,
    scopes: KeyScopes,
    lifetime: SignedDuration,
}

fn parse(request: CreateKey) -> Result<Parsed, TeamError> {
    let mut errors = Vec::new();
    let name = Label::parse(&request.name);
    let name = name.map_err(|error| errors.push(FieldError::new("/name", error)));
    let mut scopes = Vec::new();
    for (index, word) in request.scopes.iter().enumerate() {
        match word.parse::<KeyScope>() {
            Ok(scope) if scope.is_offered() => scopes.push(scope),
            Ok(_) => {
                let pointer = format!("/scopes/{index}");
                errors.push(FieldError::new(pointer, UnknownKeyScope));
            }
            Err(error) => errors.push(FieldError::new(format!("/scopes/{index}"), error)),
        }
    }
    if request.scopes.is_empty() {
        let detail = "is empty; name at least one scope, such as deployments:read";
        errors.push(FieldError::new("/scopes", detail));
    }
    let days = request.expires_in_days.unwrap_or(DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        let detail = format!("is out of range; use 1 to {MOST_DAYS}");
        errors.push(FieldError::new("/expiresInDays", detail));
    }
    match name {
        Ok(name) if errors.is_empty() => Ok(Parsed {
            name,
            scopes: scopes.into_iter().collect(),
            lifetime: SignedDuration::from_hours(24 * days),
        }),
        _ => Err(TeamError::Invalid(errors)),
    }
}

/// Makes a key, which is shown only once. It can do no more than its maker, who is notified by
/// mail: a key outlives the session it was made with. So a session alone is not enough: `proved`
/// says that its owner has just repeated the password.
pub async fn create_key(
    state: &AppState,
    check: MemberCheck,
    proved: Proved,
    team: TeamId,
    request: CreateKey,
) -> Result<KeyCreated, TeamError> {
    if proved.account() != check.account() {
        return Err(TeamError::Role("another account was proved; repeat your own".to_owned()));
    }
    let Parsed { name, scopes, lifetime } = parse(request)?;
    let text = ApiKeyText::generate(&*state.random);
    let (id, now) = (ApiKeyId::new(random::uuid(&*state.random)), state.clock.now());
    let (hash, hint) = (text.hashed(), text.hint());
    let made = state
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
            let place = (grant.standing().org.id, Some(team));
            log(tables, place, account, OrgAct::KeyMade, now, Some(details))?;
            let details = json!({ "api_key": id, "team": team });
            tables.insert_account_act(account, AccountAct::ApiKeyMade, now, Some(&details))?;
            tables.queue_mail(account, MailKind::ApiKeyMade, None, now)?;
            Ok::<_, TeamError>(row)
        })
        .await?;
    state.mail_due.notify_one();
    Ok(KeyCreated { api_key: view::api_key(made), key: text.into_secret() })
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
) -> Result<Vec<ApiKey>, TeamError> {
    state
        .store
        .read(move |tables| {
            let grant = check.team(tables, team, TeamRole::Viewer);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            let rows = tables.api_keys_of(team)?.into_iter();
            Ok(rows.filter(|row| sees(&grant, row)).map(view::api_key).collect())
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
            let place = (grant.standing().org.id, Some(team));
            log(tables, place, grant.actor(), OrgAct::KeyRevoked, now, Some(details))?;
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
