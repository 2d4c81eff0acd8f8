//! `GET /api/deploy/apps/{id}/events`: the status answer, again at each change.
//!
//! Level-triggered: a change is a hint to read the status. A client that reconnects gets the
//! current status first, whatever its `Last-Event-ID`; nothing older is worth sending.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use buddo_shared::api::deploy::{Status, StatusAnswer};
use buddo_shared::id::DeploymentId;
use futures_util::stream::{Stream, unfold};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::Id;
use crate::access::DeployCheck;
use crate::http::principal::DeployPrincipal;
use crate::http::problem::{self, ApiError};
use crate::live::Watch;
use crate::service::deployments;
use crate::state::AppState;

/// A comment this often keeps proxies from closing a silent stream.
const COMMENT: Duration = Duration::from_secs(15);
/// How long a client waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);
/// After this a stream ends, and its client must show a valid token again.
const LIFE: Duration = Duration::from_hours(1);

/// One client's stream.
struct Follower {
    state: AppState,
    check: DeployCheck,
    id: DeploymentId,
    watch: Watch,
    shown: Option<StatusAnswer>,
    number: u64,
    until: Instant,
}

/// Follow the status of a deployment
///
/// The status, and again at each change; it ends with the deployment, after an hour at the latest.
#[utoipa::path(
    get,
    path = "/api/deploy/apps/{id}/events",
    operation_id = "deployment_events",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id")),
    responses(
        (
            status = 200,
            body = String,
            content_type = "text/event-stream",
            description = "Server-sent events; the data of each is a `StatusAnswer`"
        ),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn stream(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Result<
    ([(HeaderName, HeaderValue); 1], Sse<impl Stream<Item = Result<Event, Infallible>>>),
    ApiError,
> {
    let check = who.0;
    // Refused as any other request is, before the stream begins.
    deployments::status(&state, check, id).await?;
    let watch = state.live.watch(check.actor(), id).ok_or_else(|| {
        ApiError::new(
            problem::OVERLOADED,
            "as many event streams are open as may be; poll the status, or try again later",
        )
        .with_header(RETRY_AFTER, HeaderValue::from_static("5"))
    })?;
    let until = Instant::now() + LIFE;
    let follower = Follower { state, check, id, watch, shown: None, number: 0, until };
    let events = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(COMMENT);
    let no_cache = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    Ok((no_cache, Sse::new(events).keep_alive(keep_alive)))
}

impl Follower {
    /// The next status that differs from the one shown; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(shown) = &self.shown {
                if shown.status == Status::Destroyed {
                    return None;
                }
                let drain = self.state.drain.clone();
                tokio::select! {
                    () = drain.cancelled() => return None,
                    () = sleep_until(self.until) => return None,
                    more = self.watch.changed() => if !more { return None },
                }
            }
            let status = deployments::status(&self.state, self.check, self.id).await.ok()?;
            if self.shown.as_ref() == Some(&status) {
                continue;
            }
            self.number += 1;
            let event = Event::default().id(self.number.to_string()).retry(RETRY);
            let event = event.json_data(&status).ok()?;
            self.shown = Some(status);
            return Some(event);
        }
    }
}
