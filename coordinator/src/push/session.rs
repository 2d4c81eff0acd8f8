//! One host's task: connect, bring the document, take reports; again when any of it fails.
//!
//! ```text
//!          ┌────────────── back-off, bell or drain ◄─────────────┐
//!          ▼                                                      │ error
//!   connect ─► send the current document ─► report stream ─► wait ┤
//!                       ▲                                         │ bell, or the document is old
//!                       └─────────────────────────────────────────┘
//! ```

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use buddo_shared::id::{Generation, HostId};
use buddo_shared::report::Frame;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::document::{self, DocumentError};
use super::frames::{Frames, StreamError};
use super::link::{Link, LinkError};
use crate::http::problem::chain;
use crate::service::reports;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::Host;

/// The first wait after a failure, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How often a document's age is looked at.
const AGE_CHECK: Duration = Duration::from_mins(10);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Serves `host` until the process drains.
pub(super) async fn serve(state: AppState, host: HostId) {
    let bell = state.wake.bell(host);
    let drain = state.drain.clone();
    let mut waits = back_off();
    let mut away = false;
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            () = drain.cancelled() => return,
            ended = session(&state, host, &bell, &mut away) => ended,
        };
        tracing::warn!(%host, error = %chain(&ended), "no session with the host");
        // A session that lasted shows that the host can be reached: begin again soon.
        if started.elapsed() > BACK_OFF.1 {
            waits = back_off();
        }
        let wait = waits.next().unwrap_or(BACK_OFF.1);
        tokio::select! {
            () = drain.cancelled() => return,
            () = sleep(wait) => {}
            // A new document or a new address: worth a try at once.
            () = bell.notified() => {}
        }
    }
}

fn back_off() -> impl Iterator<Item = Duration> {
    let (first, longest) = BACK_OFF;
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

/// One connection, as long as it lasts; so what it returns is always an error.
async fn session(state: &AppState, id: HostId, bell: &Notify, away: &mut bool) -> SessionError {
    match connected(state, id, bell, away).await {
        Ok(never) => match never {},
        Err(error) => {
            if !*away && matches!(error, SessionError::Link(_)) {
                let since = state.clock.now();
                let note = state.store.write(move |tables| tables.set_unreachable(id, since));
                *away = note.await.is_ok();
            }
            error
        }
    }
}

enum Never {}

async fn connected(
    state: &AppState,
    id: HostId,
    bell: &Notify,
    away: &mut bool,
) -> Result<Never, SessionError> {
    let host = read_host(state, id).await?;
    let mut link = Link::open(&state.ca, id, &host.address).await?;
    let now = state.clock.now();
    state.store.write(move |tables| tables.set_reached(id, now)).await?;
    *away = false;
    tracing::info!(host = %host.name, address = %host.address, "connected");
    // Always, also where it was acknowledged: an agent that lost its disk has nothing, and one
    // that has it answers at once.
    let mut sent = send(state, id, &mut link).await?;
    let mut frames = Frames::new(link.reports(host.report_seq).await?);
    let mut look = Instant::now() + AGE_CHECK;
    loop {
        tokio::select! {
            batch = frames.next() => take(state, id, &mut link, batch?).await?,
            () = bell.notified() => {}
            () = sleep_until(look) => look = Instant::now() + AGE_CHECK,
        }
        // Cheap where nothing changed: one read. The wake-up itself carries no data.
        if stale(state, id, sent).await? {
            sent = send(state, id, &mut link).await?;
        }
    }
}

/// Whether the host lacks the newest generation, or what it has should be refreshed.
async fn stale(state: &AppState, id: HostId, sent: Generation) -> Result<bool, SessionError> {
    let now = state.clock.now();
    let stale = state.store.read(move |tables| {
        let wanted = tables.host(id)?.map(|host| host.wanted);
        let document = tables.document(id, sent)?;
        let old = document.is_none_or(|document| document::is_old(&document, now));
        Ok::<_, StoreError>(wanted != Some(sent) || old)
    });
    Ok(stale.await?)
}

async fn read_host(state: &AppState, id: HostId) -> Result<Host, SessionError> {
    let host = state.store.read(move |tables| tables.host(id)).await?;
    Ok(host.ok_or(DocumentError::Unknown)?)
}

/// Sends the newest document and notes that the host has it.
async fn send(state: &AppState, id: HostId, link: &mut Link) -> Result<Generation, SessionError> {
    let document = document::current(state, id).await?;
    let generation = document.generation;
    link.put(&document).await.inspect_err(|error| {
        tracing::error!(host = %id, %generation, error = %chain(error), "document not accepted");
    })?;
    state.store.write(move |tables| tables.set_acknowledged(id, generation)).await?;
    tracing::debug!(host = %id, %generation, "document acknowledged");
    Ok(generation)
}

/// Commits the reports of a batch, then acknowledges them; what is not kept goes to watchers.
async fn take(
    state: &AppState,
    id: HostId,
    link: &mut Link,
    batch: Vec<Frame>,
) -> Result<(), SessionError> {
    let mut durable = Vec::new();
    for frame in batch {
        match frame {
            Frame::Report(report) => durable.push(report),
            Frame::Progress(progress) => state.live.progressed(progress),
            Frame::Checked(probes) => state.live.checked(&probes),
        }
    }
    if durable.is_empty() {
        return Ok(());
    }
    let through = reports::commit(state, id, durable).await?;
    Ok(link.acknowledge(through).await?)
}
