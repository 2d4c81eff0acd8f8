//! Which hosts are connected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_shared::model::id::HostId;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::error::CallError;
use super::handle::HostHandle;
use super::open::Connection;
use crate::process::metrics::{Metrics, Present};

/// Reads in progress at once on all hosts: with full windows they hold 64 MiB.
const MAX_READS: usize = 1024;

/// The connections of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct HostConnections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Mutex<HashMap<HostId, State>>,
    all_reads: Arc<Semaphore>,
    metrics: Metrics,
}

#[derive(Debug)]
enum State {
    Connected(HostHandle),
    Away { since: Timestamp, why: String },
}

impl HostConnections {
    pub fn new(metrics: Metrics) -> Self {
        let all_reads = Arc::new(Semaphore::new(MAX_READS));
        Self(Arc::new(Inner { hosts: Mutex::default(), all_reads, metrics }))
    }

    /// The connection to `host`; `Err`: since when it is not connected, and why.
    pub fn get(&self, host: HostId) -> Result<HostHandle, CallError> {
        match self.hosts().get(&host) {
            Some(State::Connected(handle)) => match handle.0.ended.why() {
                None => Ok(handle.clone()),
                // Its session is about to notice.
                Some(why) => Err(CallError::NotConnected { since: None, why }),
            },
            Some(State::Away { since, why }) => {
                Err(CallError::NotConnected { since: Some(*since), why: why.clone() })
            }
            None => Err(CallError::NotConnected {
                since: None,
                why: "this coordinator has not connected to it yet".to_owned(),
            }),
        }
    }

    /// Since when each host is connected.
    pub fn connected(&self) -> HashMap<HostId, Timestamp> {
        let hosts = self.hosts();
        let connected = hosts.iter().filter_map(|(host, state)| match state {
            State::Connected(handle) => Some((*host, handle.since())),
            State::Away { .. } => None,
        });
        connected.collect()
    }

    /// Lists the host as connected, for as long as the answer lives.
    pub(crate) fn register(&self, connection: &Connection) -> Registration {
        let handle = connection.handle().clone();
        let host = handle.host();
        let counted = self.0.metrics.host_connected();
        self.hosts().insert(host, State::Connected(handle));
        Registration { connections: self.clone(), host, _counted: counted }
    }

    /// There is no connection to the host, and why. What it is away since stays.
    pub(crate) fn away(&self, host: HostId, now: Timestamp, why: String) {
        let mut hosts = self.hosts();
        let since = match hosts.get(&host) {
            Some(State::Away { since, .. }) => *since,
            Some(State::Connected(_)) | None => now,
        };
        hosts.insert(host, State::Away { since, why });
    }

    /// The host is no longer one of this platform.
    pub(crate) fn forget(&self, host: HostId) {
        self.hosts().remove(&host);
    }

    pub(super) fn all_reads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.all_reads)
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.0.metrics.clone()
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<HostId, State>> {
        self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connected host's entry in the registry.
#[derive(Debug)]
pub(crate) struct Registration {
    connections: HostConnections,
    host: HostId,
    _counted: Present,
}

impl Drop for Registration {
    /// Nobody gets a handle of a connection that is about to end; the session says why it did.
    fn drop(&mut self) {
        let mut hosts = self.connections.hosts();
        if let Some(State::Connected(_)) = hosts.get(&self.host) {
            hosts.remove(&self.host);
        }
    }
}
