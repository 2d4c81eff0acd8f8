//! `/api/orgs` and `/api/invitations`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{
    AcceptInvitation, CreateOrg, CreateTeam, Invitation, Invite, Member, Org, OrgActivity, Rename,
    SetRole, Team,
};
use http::StatusCode;

use super::json::ApiJson;
use super::path::{InOrg, OrgInvitation, OrgMember};
use super::principal::MemberPrincipal;
use super::problem::ApiError;
use super::rate_limit::{Key, Limit};
use crate::service::teams;
use crate::state::AppState;

/// The endpoints.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/orgs", get(list).post(create))
        .route("/api/orgs/{org_id}", get(show).put(rename).delete(remove))
        .route("/api/orgs/{org_id}/take-over", post(take_over))
        .route("/api/orgs/{org_id}/activity", get(activity))
        .route("/api/orgs/{org_id}/members", get(members))
        .route("/api/orgs/{org_id}/members/{account_id}", put(set_role).delete(remove_member))
        .route("/api/orgs/{org_id}/invitations", get(invitations).post(invite))
        .route("/api/orgs/{org_id}/invitations/{invitation_id}", delete(revoke_invitation))
        .route("/api/orgs/{org_id}/teams", get(org_teams).post(create_team))
        .route("/api/invitations/accept", post(accept))
}

pub(super) type Answer<T> = Result<Json<T>, ApiError>;
pub(super) type Created<T> = Result<(StatusCode, Json<T>), ApiError>;

pub(super) fn message(text: &str) -> Json<Message> {
    Json(Message { message: text.to_owned() })
}

async fn list(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
) -> Answer<Vec<Org>> {
    Ok(Json(teams::orgs(&state, check).await?))
}

async fn create(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    ApiJson(request): ApiJson<CreateOrg>,
) -> Created<Org> {
    Ok((StatusCode::CREATED, Json(teams::create_org(&state, check, request).await?)))
}

async fn show(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Org> {
    Ok(Json(teams::org(&state, check, org).await?))
}

async fn rename(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    ApiJson(request): ApiJson<Rename>,
) -> Answer<Org> {
    Ok(Json(teams::rename_org(&state, check, org, request).await?))
}

async fn remove(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Message> {
    teams::delete_org(&state, check, org).await?;
    Ok(message("Organisation deleted"))
}

async fn take_over(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Org> {
    Ok(Json(teams::take_over(&state, check, org).await?))
}

async fn activity(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Vec<OrgActivity>> {
    Ok(Json(teams::activity(&state, check, org).await?))
}

async fn members(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Vec<Member>> {
    Ok(Json(teams::org_members(&state, check, org).await?))
}

async fn set_role(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    OrgMember { org, account }: OrgMember,
    ApiJson(request): ApiJson<SetRole>,
) -> Answer<Message> {
    teams::set_org_role(&state, check, org, account, request).await?;
    Ok(message("Role changed"))
}

async fn remove_member(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    OrgMember { org, account }: OrgMember,
) -> Answer<Message> {
    teams::remove_org_member(&state, check, org, account).await?;
    Ok(message("Member removed; the API keys that they made here have ended"))
}

async fn invitations(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Vec<Invitation>> {
    Ok(Json(teams::invitations(&state, check, org).await?))
}

/// Each is a mail to somebody who did not ask for it, so that they have a limit of their own.
async fn invite(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    ApiJson(request): ApiJson<Invite>,
) -> Response {
    let invite = async {
        match teams::invite(&state, check, org, request).await {
            Ok(invitation) => (StatusCode::CREATED, Json(invitation)).into_response(),
            Err(error) => ApiError::from(error).into_response(),
        }
    };
    let key = Key::Account(check.account());
    state.door.limiters.limited(Limit::Invitations, key, invite).await
}

async fn revoke_invitation(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    OrgInvitation { org, invitation }: OrgInvitation,
) -> Answer<Message> {
    teams::revoke_invitation(&state, check, org, invitation).await?;
    Ok(message("Invitation taken back; its link is void"))
}

async fn accept(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    ApiJson(request): ApiJson<AcceptInvitation>,
) -> Answer<Org> {
    Ok(Json(teams::accept(&state, check, request.token.expose()).await?))
}

async fn org_teams(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Vec<Team>> {
    Ok(Json(teams::org_teams(&state, check, org).await?))
}

async fn create_team(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    ApiJson(request): ApiJson<CreateTeam>,
) -> Created<Team> {
    Ok((StatusCode::CREATED, Json(teams::create_team(&state, check, org, request).await?)))
}
