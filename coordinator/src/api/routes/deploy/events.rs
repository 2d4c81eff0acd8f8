//! `GET /api/deploy/apps/{id}/events`: the status answer, again at each change.
//!
//! Level-triggered: a change is a hint to read the status. A client that reconnects gets the
//! current status first, no matter its `Last-Event-ID`; nothing older is worth sending.
//!
//! ```text
//! changed, or a beat ─► read the status ─► differs from shown ─┐
//!        ▲                └─ nothing new ─► a beat is due ─────┴─► is its reader still authorized?
//!        └──────────────────────────── an event, or a comment ◄─ yes ─┘   no ─► the end
//! ```
//!
//! Authorization is checked after the read: nothing that happened after it was revoked is sent.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use buddo_shared::api::deploy::{Status, StatusAnswer};
use buddo_shared::model::id::DeploymentId;
use futures_util::stream::{Stream, unfold};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::{Id, wire};
use crate::api::extract::principal::StreamPrincipal;
use crate::api::problem::{self, ApiError};
use crate::auth::access::StreamAuthorization;
use crate::live::Watch;
use crate::service::deployments;
use crate::state::AppState;

/// A comment this often keeps proxies from closing a silent stream; it also bounds how long a
/// stream outlives its reader's authorization.
const BEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);
/// A stream ends after this long, and its client must show a valid token again.
const LIFE: Duration = Duration::from_hours(1);

/// One client's stream.
struct Follower {
    state: AppState,
    authorization: StreamAuthorization,
    id: DeploymentId,
    watch: Watch,
    shown: Option<StatusAnswer>,
    number: u64,
    beat: Instant,
    until: Instant,
}

/// Follow the status of a deployment
///
/// The status, and again at each change. It ends with the deployment; once whoever opened it may look
/// no more, before the next event or comment (each 15 seconds); and after an hour.
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
    StreamPrincipal(authorization): StreamPrincipal,
    Id(id): Id,
) -> Result<
    ([(HeaderName, HeaderValue); 1], Sse<impl Stream<Item = Result<Event, Infallible>>>),
    ApiError,
> {
    // Refused like any other request, before the stream begins.
    deployments::status(&state, authorization.check(), id).await?;
    let watch = state.live.watch(authorization.check().actor(), id).ok_or_else(|| {
        ApiError::new(
            problem::OVERLOADED,
            "too many event streams are open; poll the status, or try again later",
        )
        .with_header(RETRY_AFTER, HeaderValue::from_static("5"))
    })?;
    let (beat, until) = (Instant::now() + BEAT, Instant::now() + LIFE);
    let follower =
        Follower { state, authorization, id, watch, shown: None, number: 0, beat, until };
    let events = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    let no_cache = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    Ok((no_cache, Sse::new(events)))
}

impl Follower {
    /// The next status that differs from the last one sent, or a comment if none comes in time;
    /// `None` ends the stream.
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
                    () = sleep_until(self.beat) => (),
                    more = self.watch.changed() => if !more { return None },
                }
            }
            let check = self.authorization.check();
            let status = deployments::status(&self.state, check, self.id).await.ok()?;
            let status = wire::status_answer(status);
            let is_news = self.shown.as_ref() != Some(&status);
            if !is_news && Instant::now() < self.beat {
                continue;
            }
            if !self.authorization.holds(&self.state.auth).await {
                return None;
            }
            self.beat = Instant::now() + BEAT;
            if !is_news {
                return Some(Event::default().comment(""));
            }
            self.number += 1;
            let event = Event::default().id(self.number.to_string()).retry(RETRY);
            let event = event.json_data(&status).ok()?;
            self.shown = Some(status);
            return Some(event);
        }
    }
}
