//! `/api/teams`.

use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{Member, Rename, SetRole, Team};

use super::json::ApiJson;
use super::orgs::{Answer, message};
use super::path::{InTeam, TeamMember};
use super::principal::MemberPrincipal;
use crate::service::teams;
use crate::state::AppState;

/// The endpoints.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/teams", get(list))
        .route("/api/teams/{team_id}", get(show).put(rename).delete(remove))
        .route("/api/teams/{team_id}/members", get(members))
        .route("/api/teams/{team_id}/members/{account_id}", put(set_role).delete(remove_member))
}

async fn list(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
) -> Answer<Vec<Team>> {
    Ok(Json(teams::teams(&state, check).await?))
}

async fn show(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
) -> Answer<Team> {
    Ok(Json(teams::team(&state, check, team).await?))
}

async fn rename(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
    ApiJson(request): ApiJson<Rename>,
) -> Answer<Team> {
    Ok(Json(teams::rename_team(&state, check, team, request).await?))
}

async fn remove(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
) -> Answer<Message> {
    teams::delete_team(&state, check, team).await?;
    Ok(message("Team deleted; its API keys have ended"))
}

async fn members(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
) -> Answer<Vec<Member>> {
    Ok(Json(teams::team_members(&state, check, team).await?))
}

async fn set_role(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    TeamMember { team, account }: TeamMember,
    ApiJson(request): ApiJson<SetRole>,
) -> Answer<Message> {
    teams::set_team_role(&state, check, team, account, request).await?;
    Ok(message("Role set"))
}

async fn remove_member(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    TeamMember { team, account }: TeamMember,
) -> Answer<Message> {
    teams::remove_team_member(&state, check, team, account).await?;
    Ok(message("Member taken out of the team; the API keys that they made in it have ended"))
}
