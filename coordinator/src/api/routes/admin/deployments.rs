//! `/api/admin/hosts/{name}/evacuate` and `/api/admin/deployments`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use buddo_shared::api::admin::{Evacuation, LeftBehind};
use buddo_shared::api::auth::Message;

use super::platform::{Answer, Name, name, with_load};
use super::{AdminPrincipal, REFUSED};
use crate::api::problem::ApiError;
use crate::service::admin::{self, Destroyed, Evacuated, Means};
use crate::state::AppState;

/// Move the deployments of a host to others
///
/// For a host that is lost: it is drained, and each of its deployments is placed elsewhere at its next
/// revision, with the same image and environment. What the apps stored on the host stays there. The
/// host may still run them, if it is only cut off: it stops them once it can be reached again.
#[utoipa::path(
    post,
    path = "/api/admin/hosts/{name}/evacuate",
    operation_id = "evacuate_host",
    tag = "admin",
    security(("login" = [])),
    params(("name" = String, Path, description = "Name of the host")),
    responses(
        (status = 200, body = Evacuation, description = "How many were moved, and which could not be"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn evacuate(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    host: Name,
) -> Answer<Evacuation> {
    let overcommit = state.config.limits.memory_overcommit;
    let means = Means { vault: Arc::clone(&state.vault), overcommit };
    let name = name(host)?;
    // It runs to completion even if the client does not wait for it.
    let work = tokio::spawn({
        let context = context.clone();
        async move {
            let announce = |changed: &[_]| admin::announce(&state, changed);
            admin::evacuate(&context, &means, &name, announce).await
        }
    });
    let done = work.await.map_err(|error| ApiError::internal(&error))?;
    let Evacuated { host, changed, left } = done?;
    let moved = u32::try_from(changed.len() / 2).unwrap_or(u32::MAX);
    let left = left.into_iter().map(|one| LeftBehind {
        id: one.id.to_string(),
        subdomain: one.name,
        reason: one.reason,
    });
    let left = left.collect();
    Ok(Json(Evacuation { host: with_load(&context, host).await?, moved, left }))
}

/// Destroy any account's deployment
///
/// Its owner sees in its log that the platform did. Its names are free at once; a host that cannot be
/// reached stops it when it is back.
#[utoipa::path(
    delete,
    path = "/api/admin/deployments/{id}",
    operation_id = "admin_destroy_deployment",
    tag = "admin",
    security(("login" = [])),
    params(("id" = String, Path, description = "Deployment id or subdomain")),
    responses(
        (status = 200, body = Message, description = "It is gone for good"),
        (status = 403, description = REFUSED),
        (status = 404, description = "`not_found`"),
        (status = 422, description = "`illegal_state`"),
    )
)]
pub(super) async fn destroy(
    State(state): State<AppState>,
    AdminPrincipal(context): AdminPrincipal,
    deployment: Name,
) -> Answer<Message> {
    let Destroyed { host, id, name } = admin::destroy(&context, &name(deployment)?).await?;
    admin::announce(&state, &[(host, id)]);
    state.live.forget(id);
    Ok(Json(Message { message: format!("{name} is destroyed") }))
}
