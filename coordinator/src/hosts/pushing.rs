//! Pushing, by the holder of the host's lease: deliver the document, take reports.
//!
//! ```text
//!   send the current document ─► report stream ─► wait ─┬─► the lease is lost, or an error
//!                    ▲                                   │ notify, or the document is old
//!                    └───────────────────────────────────┘
//! ```
//!
//! A document that the agent refuses, or that cannot be built, does not end it: reports are still
//! taken, and the host's `refusal` says what an administrator has to do.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::report::Frame;
use buddo_shared::model::id::{Generation, HostId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::agent_api;
use super::budget::Budget;
use super::document::{self, DocumentError};
use super::frames::Frames;
use super::lease::HeldLease;
use super::session::{Never, SessionError, announce, still_there};
use crate::domain::host_trust::Trusts;
use crate::host_client::{CallError, Connection};
use crate::service::hosts::reports::{self, Complaints};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{DocumentRow, Host};

/// How often to check a document's age.
const AGE_CHECK: Duration = Duration::from_mins(10);
/// Delay before a refused document is sent again.
const OFFER_AGAIN: Duration = Duration::from_secs(30);
/// Maximum documents sent in a row, one following from the acknowledgement of another, before
/// reports are read.
const MOST_STEPS: usize = 4;

/// Pushes to `host` until the lease is lost. A call in progress is broken off then: the next holder
/// may already be sending the same.
pub(super) async fn run(
    state: &AppState,
    host: &Host,
    connection: &Connection,
    mut lease: HeldLease,
    notify: &Notify,
    budget: &mut Budget,
) -> Result<(), SessionError> {
    tokio::select! {
        biased;
        () = lease.lost() => {
            tracing::warn!(host = %host.name, "no longer pushing: the host's lease is lost");
            Ok(())
        }
        ended = push(state, host, connection, notify, budget) => match ended {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    }
}

async fn push(
    state: &AppState,
    host: &Host,
    connection: &Connection,
    notify: &Notify,
    budget: &mut Budget,
) -> Result<Never, SessionError> {
    let id = host.id;
    // Always, even if it was acknowledged: an agent that lost its disk has nothing, and one that
    // has the document answers at once.
    let mut sent = bring(state, host, connection).await?;
    let (mut through, mut complaints) = (host.report_seq, Complaints::default());
    let mut frames = Frames::new(agent_api::reports(connection, through).await?, budget);
    hear(state, connection);
    let mut look = Instant::now() + next_look(sent);
    loop {
        let mut hint = true;
        tokio::select! {
            batch = frames.next() => {
                let taken = take(state, connection, batch?, &mut complaints).await?;
                through = taken.unwrap_or(through);
                hint = false;
            }
            () = notify.notified() => {}
            () = sleep_until(look) => {}
        }
        if state.time.wants(id) {
            // Repeats the last acknowledgement; the answer carries the host's time.
            acknowledge(connection, through, &mut complaints).await?;
            hear(state, connection);
        }
        // Cheap if nothing changed: one read. The wake-up itself carries no data.
        let stale = stale(state, host, sent).await?;
        // After a refusal, not with each frame: it will be refused again until something changes.
        let again = stale && (sent.is_some() || hint);
        if again {
            sent = bring(state, host, connection).await?;
        }
        if again || Instant::now() >= look {
            look = Instant::now() + next_look(sent);
        }
    }
}

/// Acknowledges committed reports. A host with a full disk cannot store that; it is repeated with
/// the next reports, which are still taken.
async fn acknowledge(
    connection: &Connection,
    through: u64,
    complaints: &mut Complaints,
) -> Result<(), CallError> {
    match agent_api::acknowledge(connection, through).await {
        Err(error) if error.is_not_stored() => {
            let (id, error) = (connection.host(), chain(&error));
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
fn hear(state: &AppState, connection: &Connection) {
    if connection.date().is_some_and(|date| state.time.heard(connection.host(), date)) {
        tracing::info!("most hosts agree with the clock; signing resumes");
        state.wake.all();
    }
}

fn next_look(sent: Option<Generation>) -> Duration {
    if sent.is_some() { AGE_CHECK } else { OFFER_AGAIN }
}

/// Whether the host lacks the newest generation, or its document should be refreshed.
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
    still_there(held, &host)?;
    Ok(sent != Some(host.wanted) || old)
}

/// Sends the newest document, and those that follow from its acknowledgement: a key rotation takes
/// two.
async fn bring(
    state: &AppState,
    host: &Host,
    connection: &Connection,
) -> Result<Option<Generation>, SessionError> {
    let mut sent = send(state, connection).await?;
    for _ in 0..MOST_STEPS {
        if sent.is_none() || !stale(state, host, sent).await? {
            break;
        }
        sent = send(state, connection).await?;
    }
    Ok(sent)
}

/// Sends the newest document and records the delivery; `None`: the reason for the failure is
/// recorded.
async fn send(
    state: &AppState,
    connection: &Connection,
) -> Result<Option<Generation>, SessionError> {
    let id = connection.host();
    let document = match document::current(state, id).await {
        Ok(document) => document,
        Err(error) if error.is_lasting() => return refused(state, id, chain(&error)).await,
        Err(error) => return Err(error.into()),
    };
    let generation = document.generation;
    match agent_api::put(connection, &document).await {
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
    connection: &Connection,
    batch: Vec<Frame>,
    complaints: &mut Complaints,
) -> Result<Option<u64>, SessionError> {
    let id = connection.host();
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
    acknowledge(connection, through, complaints).await?;
    Ok(Some(through))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_document_is_retried_within_30_seconds() {
        assert!(next_look(None) <= Duration::from_secs(30));
        let taken = Generation { epoch: 1, generation: 1 };
        assert!(next_look(Some(taken)) > Duration::from_mins(1));
    }
}
