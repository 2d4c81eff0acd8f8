//! `/api/teams`.

use axum::Json;
use axum::extract::State;
use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{Member, Rename, SetRole, Team};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::Listing;
use crate::api::extract::path::{InTeam, TeamMember};
use crate::api::extract::principal::MemberPrincipal;
use crate::api::routes::orgs::{Answer, Page, message, page, wire};
use crate::api::state::ApiState;
use crate::service::teams;
use crate::state::AppState;

/// The endpoints.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, rename, remove))
        .routes(routes!(members))
        .routes(routes!(set_role, remove_member))
}

/// The teams that the account may look into
///
/// Of all organisations, with the account's role in each.
#[utoipa::path(
    get,
    path = "/api/teams",
    operation_id = "teams",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(Listing),
    responses(
        (status = 200, body = Vec<Team>, description = "Its own first"),
    )
)]
async fn list(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    listing: Listing,
) -> Page<Team> {
    let teams = teams::teams(&state, check).await?;
    page(&listing, teams.into_iter().map(wire::team).collect(), |team| team.id.clone())
}

/// One team
///
/// For who may look into it.
#[utoipa::path(
    get,
    path = "/api/teams/{team_id}",
    operation_id = "team",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id")),
    responses(
        (status = 200, body = Team, description = "The team"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn show(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
) -> Answer<Team> {
    Ok(Json(wire::team(teams::team(&state, check, team).await?)))
}

/// Rename a team
///
/// For its admins. Fields that are absent stay as they are.
#[utoipa::path(
    put,
    path = "/api/teams/{team_id}",
    operation_id = "rename_team",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id")),
    request_body = Rename,
    responses(
        (status = 200, body = Team, description = "The team"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn rename(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
    ApiJson(request): ApiJson<Rename>,
) -> Answer<Team> {
    let renaming = wire::renaming(&request)?;
    Ok(Json(wire::team(teams::rename_team(&state, check, team, renaming).await?)))
}

/// End a team
///
/// It has to have no deployments left.
#[utoipa::path(
    delete,
    path = "/api/teams/{team_id}",
    operation_id = "delete_team",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id")),
    responses(
        (status = 200, body = Message, description = "It is gone, and its API keys have ended"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`"),
    )
)]
async fn remove(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
) -> Answer<Message> {
    teams::delete_team(&state, check, team).await?;
    Ok(message("Team deleted; its API keys have ended"))
}

/// Who was put into a team
///
/// Owners and admins of the organisation are not listed: they are in each of its teams.
#[utoipa::path(
    get,
    path = "/api/teams/{team_id}/members",
    operation_id = "team_members",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id"), Listing),
    responses(
        (status = 200, body = Vec<Member>, description = "First come first"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn members(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
    listing: Listing,
) -> Page<Member> {
    let members = teams::team_members(&state, check, team).await?;
    page(&listing, members.into_iter().map(wire::member).collect(), |member| {
        member.account_id.clone()
    })
}

/// Put a member of the organisation into a team, or give them another role there
///
/// For admins of the team.
#[utoipa::path(
    put,
    path = "/api/teams/{team_id}/members/{account_id}",
    operation_id = "set_team_role",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id"), ("account_id" = uuid::Uuid, Path, description = "Account id of the member")),
    request_body = SetRole,
    responses(
        (status = 200, body = Message, description = "They have the role"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`"),
    )
)]
async fn set_role(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    TeamMember { team, account }: TeamMember,
    ApiJson(request): ApiJson<SetRole>,
) -> Answer<Message> {
    teams::set_team_role(&state, check, team, account, wire::role(&request)?).await?;
    Ok(message("Role set"))
}

/// Take a member out of a team, or leave it
///
/// For admins of the team, and for the member.
#[utoipa::path(
    delete,
    path = "/api/teams/{team_id}/members/{account_id}",
    operation_id = "remove_team_member",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id"), ("account_id" = uuid::Uuid, Path, description = "Account id of the member")),
    responses(
        (status = 200, body = Message, description = "They are out, and the API keys that they made in it have ended"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn remove_member(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    TeamMember { team, account }: TeamMember,
) -> Answer<Message> {
    teams::remove_team_member(&state, check, team, account).await?;
    Ok(message("Member taken out of the team; the API keys that they made in it have ended"))
}
