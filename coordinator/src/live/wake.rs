//! Hints for the tasks that serve hosts. A hint carries no data: the woken task reads the state
//! again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use buddo_shared::model::id::HostId;
use tokio::sync::Notify;

/// One notify per host, and one for hosts that join.
#[derive(Debug, Default)]
pub struct Wake {
    hosts: Mutex<HashMap<HostId, Arc<Notify>>>,
    joined: Notify,
}

impl Wake {
    /// The notify of one host.
    pub fn notify(&self, id: HostId) -> Arc<Notify> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(id).or_default())
    }

    /// The desired state of `id` may have changed.
    pub fn host(&self, id: HostId) {
        self.notify(id).notify_one();
    }

    /// The desired state of every served host may have changed.
    pub fn all(&self) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for notify in hosts.values() {
            notify.notify_one();
        }
    }

    /// A host has joined, or joined again.
    pub fn joined(&self, id: HostId) {
        self.host(id);
        self.joined.notify_one();
    }

    /// Waits for a host to join. For one waiter: each join is told once.
    pub(crate) async fn until_joined(&self) {
        self.joined.notified().await;
    }
}
