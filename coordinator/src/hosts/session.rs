//! One host's task: keep a connection, and push over it while this process holds the host's lease;
//! back off and reconnect on any error.
//!
//! ```text
//!          ┌──────────── back-off, notify or drain ◄────────────┐
//!          ▼                                                   │ error
//!   connect, register ─► lease? ─ ours ──────► push (pushing) ─┤
//!                           ▲  └─ elsewhere ─► wait ──┐        │ lease lost
//!                           └─────────────────────────┴────────┘
//! ```
//!
//! Reads go over the connection all the time, whoever holds the lease.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::HostId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::budget::{self, Budget};
use super::dial::Dial;
use super::document::DocumentError;
use super::frames::StreamError;
use super::lease::{Acquired, HostLeases};
use super::pushing;
use super::waits::Waits;
use crate::host_client::{CallError, ConnectError, Connection, Endpoint};
use crate::service::hosts::renewal::{Unserved, is_served};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Host, Lease};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the host has joined again; its new address and key count from now on")]
    JoinedAgain,
    #[error(transparent)]
    Unserved(#[from] Unserved),
}

/// Delay before a locked host is checked again; its notify rings when it has joined.
const LOCKED: Duration = Duration::from_mins(10);

/// What the task of one host has to work with.
pub(super) struct Session {
    pub(super) state: AppState,
    pub(super) dial: Arc<Dial>,
    pub(super) leases: Arc<HostLeases>,
    pub(super) host: HostId,
}

/// Serves a host, one of `together` hosts that begin now, until it is removed or the process
/// drains.
pub(super) async fn serve(session: Session, together: usize) {
    let Session { state, dial, host, .. } = &session;
    let notify = state.wake.notify(*host);
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
            ended = session.run(&notify, &mut contact, &mut budget) => ended,
        };
        if let SessionError::Unserved(Unserved::Removed(_)) = ended {
            state.connections.forget(*host);
            tracing::info!(%host, "the host was removed; its task ends");
            return;
        }
        let why = chain(&ended);
        state.connections.away(*host, state.clock.now(), why.clone());
        contact.tell(*host, why);
        if matches!(ended, SessionError::Stream(StreamError::Flood(_))) {
            note_flood(state, *host).await;
            tokio::select! {
                () = drain.cancelled() => return,
                // The notify does not end this wait: app owners ring it, and one of them may control
                // the agent.
                () = sleep(budget::WINDOW) => continue,
            }
        }
        let wait = match ended {
            SessionError::Unserved(Unserved::Locked(_)) => LOCKED,
            SessionError::Connect(error) => waits.after(contact.lasted(), error.is_agent_down()),
            _ => waits.after(contact.lasted(), false),
        };
        tokio::select! {
            () = drain.cancelled() => return,
            () = sleep(wait) => {}
            // A new document or a new address: worth an immediate retry.
            () = notify.notified() => {}
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

impl Session {
    /// One connection; it always ends with an error.
    async fn run(
        &self,
        notify: &Notify,
        contact: &mut Contact,
        budget: &mut Budget,
    ) -> SessionError {
        let error = match self.connected(notify, contact, budget).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let broken = matches!(error, SessionError::Connect(_) | SessionError::Call(_));
        if broken && !contact.away {
            contact.away = self.note_unreachable().await;
        }
        error
    }

    async fn connected(
        &self,
        notify: &Notify,
        contact: &mut Contact,
        budget: &mut Budget,
    ) -> Result<Never, SessionError> {
        let Self { state, dial, leases, host: id } = self;
        let dialled = read_host(state, *id).await?;
        let permit = dial.permit().await;
        let endpoint = Endpoint {
            host: *id,
            address: &dialled.address,
            key: dialled.identity.key.as_ref(),
            keep_alive: state.config.hosts.keep_alive,
        };
        let now = state.clock.now();
        let connection = Connection::open(&state.ca, endpoint, &state.connections, now).await?;
        drop(permit);
        budget.connected(Instant::now()).map_err(StreamError::from)?;
        let _registered = state.connections.register(&connection);
        *contact = Contact { since: Some(Instant::now()), ..Contact::default() };
        tracing::info!(host = %dialled.name, address = %dialled.address, "connected");
        let mut stands_by = false;
        loop {
            match leases.acquire(*id, state.clock.now()).await? {
                Acquired::Held(lease) => {
                    announce(state, *id).await;
                    // Its report number: another coordinator may have pushed meanwhile.
                    let host = read_host(state, *id).await?;
                    still_there(&dialled, &host)?;
                    pushing::run(state, &host, &connection, lease, notify, budget).await?;
                    stands_by = false;
                }
                Acquired::Elsewhere(lease) => {
                    if !std::mem::replace(&mut stands_by, true) {
                        let (host, holder) = (&dialled.name, lease.holder);
                        tracing::info!(%host, %holder, "another coordinator pushes to the host");
                    }
                    tokio::select! {
                        why = connection.ended() => {
                            return Err(CallError::NotConnected { since: None, why }.into());
                        }
                        () = sleep(leases.until_next_try()) => {}
                    }
                    still_there(&dialled, &read_host(state, *id).await?)?;
                }
            }
        }
    }

    /// Records that the host is unreachable and gives its lease back, unless another coordinator
    /// has it: that one may well reach the host. Returns whether it is recorded.
    async fn note_unreachable(&self) -> bool {
        let (id, holder) = (self.host, self.leases.holder());
        let (store, since) = (&self.state.store, self.state.clock.now());
        let is_elsewhere =
            move |lease: Option<Lease>| lease.is_some_and(|one| one.holder != holder);
        // A read first: it is repeated for as long as the other one has the lease.
        let lease: Result<_, StoreError> = store.read(move |tables| tables.lease(id)).await;
        if lease.is_ok_and(is_elsewhere) {
            return false;
        }
        let noted: Result<bool, StoreError> = store
            .write(move |tables| {
                if is_elsewhere(tables.lease(id)?) {
                    return Ok(false);
                }
                tables.set_unreachable(id, since)?;
                tables.release_lease(id, holder)?;
                Ok(true)
            })
            .await;
        announce(&self.state, id).await;
        noted.unwrap_or(false)
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
pub(super) async fn announce(state: &AppState, id: HostId) {
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

pub(super) enum Never {}

async fn read_host(state: &AppState, id: HostId) -> Result<Host, SessionError> {
    let host: Option<Host> = state.store.read(move |tables| tables.host(id)).await?;
    let host = host.ok_or(DocumentError::Unknown)?;
    is_served(&host)?;
    Ok(host)
}

/// If the host has joined again, the connection leads to the previous machine.
pub(super) fn still_there(dialled: &Host, host: &Host) -> Result<(), SessionError> {
    is_served(host)?;
    if host.joined_at != dialled.joined_at || host.address != dialled.address {
        return Err(SessionError::JoinedAgain);
    }
    Ok(())
}
