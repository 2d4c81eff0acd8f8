//! One host's task: connect, deliver the document, take reports; back off and reconnect on any
//! error.
//!
//! ```text
//!          ┌────────────── back-off, bell or drain ◄─────────────┐
//!          ▼                                                      │ error
//!   connect ─► send the current document ─► report stream ─► wait ┤
//!                       ▲                                         │ bell, or the document is old
//!                       └─────────────────────────────────────────┘
//! ```
//!
//! A document that the agent refuses, or that cannot be built, does not end the session: reports
//! are still taken, and the host's `refusal` says what an administrator has to do.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::id::{Generation, HostId};
use buddo_shared::report::Frame;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::budget::{self, Budget};
use super::dial::Dial;
use super::document::{self, DocumentError};
use super::frames::{Frames, StreamError};
use super::waits::Waits;
use crate::domain::host_trust::Trusts;
use crate::hosts::client::{Link, LinkError};
use crate::service::hosts::renewal::{Unserved, is_served};
use crate::service::hosts::reports::{self, Complaints};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{DocumentRow, Host};

/// How often to check a document's age.
const AGE_CHECK: Duration = Duration::from_mins(10);
/// Delay before a refused document is sent again.
const OFFER_AGAIN: Duration = Duration::from_secs(30);

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
    #[error("the host has joined again; its new address and key count from now on")]
    JoinedAgain,
    #[error(transparent)]
    Unserved(#[from] Unserved),
}

/// Maximum documents sent in a row, one following from the acknowledgement of another, before
/// reports are read.
const MOST_STEPS: usize = 4;
/// Delay before a locked host is checked again; its bell rings when it has joined.
const LOCKED: Duration = Duration::from_mins(10);

/// Serves `host`, one of `together` hosts that begin now, until it is removed or the process
/// drains.
pub(super) async fn serve(state: AppState, dial: Arc<Dial>, host: HostId, together: usize) {
    let bell = state.wake.bell(host);
    let drain = state.drain.clone();
    let mut waits = Waits::new();
    let mut contact = Contact::default();
    let mut budget = Budget::new(Instant::now());
    if drain.run_until_cancelled(dial.spread(together)).await.is_none() {
        return;
    }
    loop {
        let ended = tokio::select! {
            () = drain.cancelled() => return,
            ended = session(&state, &dial, host, &bell, &mut contact, &mut budget) => ended,
        };
        if let SessionError::Unserved(Unserved::Removed(_)) = ended {
            tracing::info!(%host, "the host was removed; its task ends");
            return;
        }
        contact.tell(host, chain(&ended));
        if matches!(ended, SessionError::Stream(StreamError::Flood(_))) {
            note_flood(&state, host).await;
            tokio::select! {
                () = drain.cancelled() => return,
                // The bell does not end this wait: app owners ring it, and one of them may control
                // the agent.
                () = sleep(budget::WINDOW) => continue,
            }
        }
        let wait = match ended {
            SessionError::Unserved(Unserved::Locked(_)) => LOCKED,
            SessionError::Link(link) => waits.after(contact.lasted(), link.is_agent_down()),
            _ => waits.after(contact.lasted(), false),
        };
        tokio::select! {
            () = drain.cancelled() => return,
            () = sleep(wait) => {}
            // A new document or a new address: worth an immediate retry.
            () = bell.notified() => {}
        }
    }
}

/// The connection state of a host.
#[derive(Default)]
struct Contact {
    /// Recorded as unreachable.
    away: bool,
    /// When the current or last session was connected.
    since: Option<Instant>,
    /// The last logged reason for having no session.
    told: Option<String>,
}

impl Contact {
    /// How long the session that just ended was connected, if it was.
    fn lasted(&mut self) -> Option<Duration> {
        self.since.take().map(|since| since.elapsed())
    }

    /// Logs why there is no session, once per reason: an outage can last for days.
    fn tell(&mut self, host: HostId, error: String) {
        if self.told.as_ref() == Some(&error) {
            tracing::debug!(%host, error, "no session with the host");
        } else {
            tracing::warn!(%host, error, "no session with the host");
            self.told = Some(error);
        }
    }
}

/// One connection; it always ends with an error.
async fn session(
    state: &AppState,
    dial: &Dial,
    id: HostId,
    bell: &Notify,
    contact: &mut Contact,
    budget: &mut Budget,
) -> SessionError {
    match connected(state, dial, id, bell, contact, budget).await {
        Ok(never) => match never {},
        Err(error) => {
            if !contact.away && matches!(error, SessionError::Link(_)) {
                let since = state.clock.now();
                let note = state.store.write(move |tables| tables.set_unreachable(id, since));
                contact.away = note.await.is_ok();
                announce(state, id).await;
            }
            error
        }
    }
}

/// Records when the host was last cut off, for administrators. If that fails it is only logged.
async fn note_flood(state: &AppState, id: HostId) {
    let at = state.clock.now();
    let noted: Result<(), StoreError> =
        state.store.write(move |tables| tables.set_flooded(id, at)).await;
    if let Err(error) = noted {
        tracing::error!(host = %id, error = %chain(&error), "cannot record the host's cut-off");
    }
}

/// Tells those who follow a deploy on this host that its reachability may have changed.
async fn announce(state: &AppState, id: HostId) {
    let listed: Result<Vec<_>, StoreError> = state
        .store
        .read(move |tables| {
            Ok(tables.deployments_for(id)?.into_iter().filter_map(|(id, _)| id).collect())
        })
        .await;
    for deployment in listed.into_iter().flatten() {
        state.live.changed(deployment);
    }
}

enum Never {}

async fn connected(
    state: &AppState,
    dial: &Dial,
    id: HostId,
    bell: &Notify,
    contact: &mut Contact,
    budget: &mut Budget,
) -> Result<Never, SessionError> {
    let host = read_host(state, id).await?;
    let place = dial.place().await;
    let (key, keep_alive) = (host.bond.key.as_ref(), state.config.hosts.keep_alive);
    let mut link = Link::open(&state.ca, id, &host.address, key, keep_alive).await?;
    drop(place);
    budget.connected(Instant::now()).map_err(StreamError::from)?;
    let now = state.clock.now();
    state.store.write(move |tables| tables.set_reached(id, now)).await?;
    *contact = Contact { since: Some(Instant::now()), ..Contact::default() };
    announce(state, id).await;
    tracing::info!(host = %host.name, address = %host.address, "connected");
    // Always, even if it was acknowledged: an agent that lost its disk has nothing, and one that
    // has the document answers at once.
    let mut sent = bring(state, &host, &mut link).await?;
    let (mut through, mut complaints) = (host.report_seq, Complaints::default());
    let mut frames = Frames::new(link.reports(through).await?, budget);
    hear(state, id, &link);
    let mut look = Instant::now() + next_look(sent);
    loop {
        let mut hint = true;
        tokio::select! {
            batch = frames.next() => {
                let taken = take(state, id, &mut link, batch?, &mut complaints).await?;
                through = taken.unwrap_or(through);
                hint = false;
            }
            () = bell.notified() => {}
            () = sleep_until(look) => {}
        }
        if state.time.wants(id) {
            // Repeats the last acknowledgement; the answer carries the host's time.
            acknowledge(id, &mut link, through, &mut complaints).await?;
            hear(state, id, &link);
        }
        // Cheap if nothing changed: one read. The wake-up itself carries no data.
        let stale = stale(state, &host, sent).await?;
        // After a refusal, not with each frame: it will be refused again until something changes.
        let again = stale && (sent.is_some() || hint);
        if again {
            sent = bring(state, &host, &mut link).await?;
        }
        if again || Instant::now() >= look {
            look = Instant::now() + next_look(sent);
        }
    }
}

/// Acknowledges committed reports. A host with a full disk cannot store that; it is repeated with
/// the next reports, which are still taken.
async fn acknowledge(
    id: HostId,
    link: &mut Link,
    through: u64,
    complaints: &mut Complaints,
) -> Result<(), LinkError> {
    match link.acknowledge(through).await {
        Err(error) if error.is_not_stored() => {
            let error = chain(&error);
            if std::mem::replace(&mut complaints.unnoted, true) {
                tracing::debug!(host = %id, error, "the host still cannot store acknowledgements");
            } else {
                tracing::warn!(host = %id, error, "the host cannot store acknowledgements");
            }
            Ok(())
        }
        result => result,
    }
}

/// Reports the host's time, for a clock that is in doubt.
fn hear(state: &AppState, id: HostId, link: &Link) {
    if link.date().is_some_and(|date| state.time.heard(id, date)) {
        tracing::info!("most hosts agree with the clock; signing resumes");
        state.wake.all();
    }
}

fn next_look(sent: Option<Generation>) -> Duration {
    if sent.is_some() { AGE_CHECK } else { OFFER_AGAIN }
}

/// Whether the host lacks the newest generation, or its document should be refreshed. If it has
/// joined again, this connection leads to the previous machine.
async fn stale(
    state: &AppState,
    held: &Host,
    sent: Option<Generation>,
) -> Result<bool, SessionError> {
    let id = held.id;
    let services = Arc::clone(state);
    let found = state.store.read(move |tables| {
        let host = tables.host(id)?.ok_or(DocumentError::Unknown)?;
        let mark = match sent {
            Some(sent) => tables.document_mark(id, sent)?,
            None => None,
        };
        let good = mark.is_some_and(|(issued_at, trust)| {
            document::is_current(&services, &host, issued_at, trust.as_ref())
        });
        Ok::<_, DocumentError>((host, !good))
    });
    let (host, old) = found.await?;
    is_served(&host)?;
    if host.joined_at != held.joined_at || host.address != held.address {
        return Err(SessionError::JoinedAgain);
    }
    Ok(sent != Some(host.wanted) || old)
}

async fn read_host(state: &AppState, id: HostId) -> Result<Host, SessionError> {
    let host: Option<Host> = state.store.read(move |tables| tables.host(id)).await?;
    let host = host.ok_or(DocumentError::Unknown)?;
    is_served(&host)?;
    Ok(host)
}

/// Sends the newest document, and those that follow from its acknowledgement: a key rotation takes
/// two.
async fn bring(
    state: &AppState,
    host: &Host,
    link: &mut Link,
) -> Result<Option<Generation>, SessionError> {
    let mut sent = send(state, host.id, link).await?;
    for _ in 0..MOST_STEPS {
        if sent.is_none() || !stale(state, host, sent).await? {
            break;
        }
        sent = send(state, host.id, link).await?;
    }
    Ok(sent)
}

/// Sends the newest document and records the delivery; `None`: the reason for the failure is
/// recorded.
async fn send(
    state: &AppState,
    id: HostId,
    link: &mut Link,
) -> Result<Option<Generation>, SessionError> {
    let document = match document::current(state, id).await {
        Ok(document) => document,
        Err(error) if error.is_lasting() => return refused(state, id, chain(&error)).await,
        Err(error) => return Err(error.into()),
    };
    let generation = document.generation;
    match link.put(&document).await {
        Ok(()) => {}
        Err(error) => match error.refusal() {
            Some(why) => {
                if error.is_unknown_key() {
                    try_other_key(state, id, &document).await?;
                }
                return refused(state, id, why).await;
            }
            None => return Err(error.into()),
        },
    }
    state.store.write(move |tables| tables.set_acknowledged(id, generation)).await?;
    tracing::debug!(host = %id, %generation, "document acknowledged");
    Ok(Some(generation))
}

/// The host does not trust the key that this database says it does: the database may have been
/// restored to a time before the host moved on. If there are two keys, the next document is signed
/// with the other one.
async fn try_other_key(
    state: &AppState,
    id: HostId,
    document: &DocumentRow,
) -> Result<(), SessionError> {
    let keys = state.keys.keys();
    let signed = document.trust.as_ref().map(|trust| trust.signer.as_str());
    let Some(other) = signed.and_then(|kid| keys.other(kid)) else { return Ok(()) };
    let trusts = Trusts { keys: vec![other.public().kid.clone()], cas: Vec::new() };
    let noted: Result<(), StoreError> =
        state.store.write(move |tables| tables.set_trusts(id, &trusts)).await;
    Ok(noted?)
}

async fn refused(
    state: &AppState,
    id: HostId,
    why: String,
) -> Result<Option<Generation>, SessionError> {
    tracing::error!(host = %id, "the host does not have its newest document: {why}");
    state.store.write(move |tables| tables.set_refusal(id, &why)).await?;
    announce(state, id).await;
    Ok(None)
}

/// Commits the reports of a batch, then acknowledges them; transient frames go to watchers. Returns
/// the sequence number up to which all reports are committed, if there were any.
async fn take(
    state: &AppState,
    id: HostId,
    link: &mut Link,
    batch: Vec<Frame>,
    complaints: &mut Complaints,
) -> Result<Option<u64>, SessionError> {
    let (mut durable, mut progress, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    for frame in batch {
        match frame {
            Frame::Report(report) => durable.push(report),
            Frame::Progress(one) => progress.push(one),
            Frame::Checked(more) => probes.extend(more),
        }
    }
    if !(progress.is_empty() && probes.is_empty()) {
        reports::show(state, id, progress, probes).await?;
    }
    if durable.is_empty() {
        return Ok(None);
    }
    let through = reports::commit(state, id, durable, complaints).await?;
    acknowledge(id, link, through, complaints).await?;
    Ok(Some(through))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_offered_again_within_half_a_minute() {
        assert!(next_look(None) <= Duration::from_secs(30));
        let taken = Generation { epoch: 1, generation: 1 };
        assert!(next_look(Some(taken)) > Duration::from_mins(1));
    }
}
