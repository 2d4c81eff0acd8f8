//! `/api/orgs` and `/api/invitations`.

pub(super) mod wire;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{
    AcceptInvitation, CreateOrg, CreateTeam, Invitation, Invite, Member, Org, OrgActivity, Rename,
    SetRole, Team,
};
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::{Listing, MOST};
use crate::api::extract::path::{InOrg, OrgInvitation, OrgMember};
use crate::api::extract::principal::MemberPrincipal;
use crate::api::middleware::rate_limit::limited;
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::limits::{Key, Limit};
use crate::service::teams;
use crate::state::AppState;

/// The endpoints.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, rename, remove))
        .routes(routes!(take_over))
        .routes(routes!(activity))
        .routes(routes!(members))
        .routes(routes!(set_role, remove_member))
        .routes(routes!(invitations, invite))
        .routes(routes!(revoke_invitation))
        .routes(routes!(org_teams, create_team))
        .routes(routes!(accept))
}

pub(in crate::api) type Answer<T> = Result<Json<T>, ApiError>;
pub(in crate::api) type Created<T> = Result<(StatusCode, Json<T>), ApiError>;
pub(in crate::api) type Page<T> = Result<(HeaderMap, Json<Vec<T>>), ApiError>;

/// One page of a list, whose entries have these ids.
pub(in crate::api) fn page<T>(
    listing: &Listing,
    all: Vec<T>,
    id: impl Fn(&T) -> String,
) -> Page<T> {
    let (headers, entries) = listing.cut(all, MOST, id)?;
    Ok((headers, Json(entries)))
}

pub(in crate::api) fn message(text: &str) -> Json<Message> {
    Json(Message { message: text.to_owned() })
}

/// The organisations of the account
///
/// Those that the account is in, with its role in each.
#[utoipa::path(
    get,
    path = "/api/orgs",
    operation_id = "orgs",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(Listing),
    responses(
        (status = 200, body = Vec<Org>, description = "Its own first"),
    )
)]
async fn list(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    listing: Listing,
) -> Page<Org> {
    let orgs = teams::orgs(&state, check).await?;
    page(&listing, orgs.into_iter().map(wire::org).collect(), |org| org.id.clone())
}

/// Make an organisation
///
/// It has a name for people and a short name for addresses, which is made of the first where it is
/// absent.
#[utoipa::path(
    post,
    path = "/api/orgs",
    operation_id = "create_org",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    request_body = CreateOrg,
    responses(
        (status = 201, body = Org, description = "The organisation; who makes it owns it"),
        (status = 403, description = "`email_unverified`"),
        (status = 409, description = "`limit_reached`"),
    )
)]
async fn create(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    ApiJson(request): ApiJson<CreateOrg>,
) -> Created<Org> {
    let name = wire::new_name(&request.name, request.slug.as_deref())?;
    let org = teams::create_org(&state, check, name).await?;
    Ok((StatusCode::CREATED, Json(wire::org(org))))
}

/// One organisation
///
/// For its members.
#[utoipa::path(
    get,
    path = "/api/orgs/{org_id}",
    operation_id = "org",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id")),
    responses(
        (status = 200, body = Org, description = "The organisation"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn show(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Org> {
    Ok(Json(wire::org(teams::org(&state, check, org).await?)))
}

/// Rename an organisation
///
/// For its owners and admins. Fields that are absent stay as they are.
#[utoipa::path(
    put,
    path = "/api/orgs/{org_id}",
    operation_id = "rename_org",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id")),
    request_body = Rename,
    responses(
        (status = 200, body = Org, description = "The organisation"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`"),
    )
)]
async fn rename(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    ApiJson(request): ApiJson<Rename>,
) -> Answer<Org> {
    let renaming = wire::renaming(&request)?;
    Ok(Json(wire::org(teams::rename_org(&state, check, org, renaming).await?)))
}

/// End an organisation
///
/// It has to have no deployments left.
#[utoipa::path(
    delete,
    path = "/api/orgs/{org_id}",
    operation_id = "delete_org",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id")),
    responses(
        (status = 200, body = Message, description = "It is gone, with its teams and their API keys"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`"),
    )
)]
async fn remove(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Message> {
    teams::delete_org(&state, check, org).await?;
    Ok(message("Organisation deleted"))
}

/// Answer for the deployments of an organisation
///
/// For its owners: who asks becomes its payer.
#[utoipa::path(
    post,
    path = "/api/orgs/{org_id}/take-over",
    operation_id = "take_over_org",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id")),
    responses(
        (status = 200, body = Org, description = "They count against the limits of who asks from now on"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`limit_reached`"),
    )
)]
async fn take_over(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
) -> Answer<Org> {
    Ok(Json(wire::org(teams::take_over(&state, check, org).await?)))
}

/// What was done in an organisation
///
/// For its owners and admins: members, roles, teams, invitations and keys.
#[utoipa::path(
    get,
    path = "/api/orgs/{org_id}/activity",
    operation_id = "org_activity",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), Listing),
    responses(
        (status = 200, body = Vec<OrgActivity>, description = "The newest two hundred acts, newest first"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn activity(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    listing: Listing,
) -> Page<OrgActivity> {
    let acts = teams::activity(&state, check, org).await?;
    let (headers, acts) = listing.cut(acts, MOST, |act| act.number.to_string())?;
    Ok((headers, Json(acts.into_iter().map(wire::activity).collect())))
}

/// The members of an organisation
///
/// For its members, with each one's role.
#[utoipa::path(
    get,
    path = "/api/orgs/{org_id}/members",
    operation_id = "org_members",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), Listing),
    responses(
        (status = 200, body = Vec<Member>, description = "First come first"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn members(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    listing: Listing,
) -> Page<Member> {
    let members = teams::org_members(&state, check, org).await?;
    page(&listing, members.into_iter().map(wire::member).collect(), |member| {
        member.account_id.clone()
    })
}

/// Give a member of an organisation another role
///
/// For its owners and admins. Nobody gives more than they have.
#[utoipa::path(
    put,
    path = "/api/orgs/{org_id}/members/{account_id}",
    operation_id = "set_org_role",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), ("account_id" = uuid::Uuid, Path, description = "Account id of the member")),
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
    OrgMember { org, account }: OrgMember,
    ApiJson(request): ApiJson<SetRole>,
) -> Answer<Message> {
    teams::set_org_role(&state, check, org, account, wire::role(&request)?).await?;
    Ok(message("Role changed"))
}

/// Remove a member from an organisation, or leave it
///
/// For its owners and admins, and for the member. Its payer cannot leave.
#[utoipa::path(
    delete,
    path = "/api/orgs/{org_id}/members/{account_id}",
    operation_id = "remove_org_member",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), ("account_id" = uuid::Uuid, Path, description = "Account id of the member")),
    responses(
        (status = 200, body = Message, description = "They are out, and the API keys that they made in its teams have ended"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`"),
    )
)]
async fn remove_member(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    OrgMember { org, account }: OrgMember,
) -> Answer<Message> {
    teams::remove_org_member(&state, check, org, account).await?;
    Ok(message("Member removed; the API keys that they made here have ended"))
}

/// The invitations that nobody has accepted
///
/// For its owners and admins. An invitation ends after a while by itself.
#[utoipa::path(
    get,
    path = "/api/orgs/{org_id}/invitations",
    operation_id = "invitations",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), Listing),
    responses(
        (status = 200, body = Vec<Invitation>, description = "Newest first"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn invitations(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    listing: Listing,
) -> Page<Invitation> {
    let invitations = teams::invitations(&state, check, org).await?;
    page(&listing, invitations.into_iter().map(wire::invitation).collect(), |invitation| {
        invitation.id.clone()
    })
}

/// Invite somebody by mail
///
/// Each is a mail to somebody who did not ask for it: 20 an hour.
#[utoipa::path(
    post,
    path = "/api/orgs/{org_id}/invitations",
    operation_id = "invite",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id")),
    request_body = Invite,
    responses(
        (status = 201, body = Invitation, description = "A mail with a link is on its way; an earlier invitation of the address is void"),
        (status = 403, description = "`role_required`, `email_unverified`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`, `limit_reached`"),
    )
)]
async fn invite(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    ApiJson(request): ApiJson<Invite>,
) -> Response {
    let invite = async {
        let invitation = match wire::new_invitation(request) {
            Ok(new) => teams::invite(&state, check, org, new).await.map_err(ApiError::from),
            Err(error) => Err(error),
        };
        match invitation {
            Ok(made) => (StatusCode::CREATED, Json(wire::invitation(made))).into_response(),
            Err(error) => error.into_response(),
        }
    };
    let key = Key::Account(check.account());
    limited(&state.limiters, Limit::Invitations, key, invite).await
}

/// Take an invitation back
///
/// For its owners and admins.
#[utoipa::path(
    delete,
    path = "/api/orgs/{org_id}/invitations/{invitation_id}",
    operation_id = "revoke_invitation",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), ("invitation_id" = uuid::Uuid, Path, description = "Invitation id")),
    responses(
        (status = 200, body = Message, description = "Its link is void"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn revoke_invitation(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    OrgInvitation { org, invitation }: OrgInvitation,
) -> Answer<Message> {
    teams::revoke_invitation(&state, check, org, invitation).await?;
    Ok(message("Invitation taken back; its link is void"))
}

/// Accept an invitation
///
/// For the account that has confirmed the address that the mail went to.
#[utoipa::path(
    post,
    path = "/api/invitations/accept",
    operation_id = "accept_invitation",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    request_body = AcceptInvitation,
    responses(
        (status = 200, body = Org, description = "The organisation that the account is in now"),
        (status = 400, description = "`invalid_link`"),
        (status = 403, description = "`email_unverified`, `forbidden`"),
    )
)]
async fn accept(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    ApiJson(request): ApiJson<AcceptInvitation>,
) -> Answer<Org> {
    Ok(Json(wire::org(teams::accept(&state, check, request.token.expose()).await?)))
}

/// The teams of an organisation
///
/// Owners and admins of the organisation may look into all of them.
#[utoipa::path(
    get,
    path = "/api/orgs/{org_id}/teams",
    operation_id = "org_teams",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id"), Listing),
    responses(
        (status = 200, body = Vec<Team>, description = "Those that the account may look into"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn org_teams(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    listing: Listing,
) -> Page<Team> {
    let teams = teams::org_teams(&state, check, org).await?;
    page(&listing, teams.into_iter().map(wire::team).collect(), |team| team.id.clone())
}

/// Make a team
///
/// For owners and admins of the organisation, who are admins of each of its teams.
#[utoipa::path(
    post,
    path = "/api/orgs/{org_id}/teams",
    operation_id = "create_team",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("org_id" = uuid::Uuid, Path, description = "Organisation id")),
    request_body = CreateTeam,
    responses(
        (status = 201, body = Team, description = "The team; nobody was put into it yet"),
        (status = 403, description = "`role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`in_use`, `limit_reached`"),
    )
)]
async fn create_team(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InOrg { org }: InOrg,
    ApiJson(request): ApiJson<CreateTeam>,
) -> Created<Team> {
    let name = wire::new_name(&request.name, request.slug.as_deref())?;
    let team = teams::create_team(&state, check, org, name).await?;
    Ok((StatusCode::CREATED, Json(wire::team(team))))
}
