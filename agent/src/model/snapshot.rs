//! How things stand on this host, for people who ask: one value per pass, plain data.

use std::net::SocketAddrV4;

use buddo_shared::manifest::RunState;
use buddo_shared::report::{DeploymentStatus, Failure, HostStatus};
use serde::{Deserialize, Serialize};

use crate::model::live_table::Target;

/// The host as the last pass saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSnapshot {
    /// Whether this host belongs to a coordinator.
    pub joined: bool,
    /// As it is reported.
    pub host: HostStatus,
    /// The deployments that shall exist or still do.
    pub deployments: Vec<DeploymentSnapshot>,
}

/// One deployment as the last pass saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSnapshot {
    /// Its name in the zone; absent while it leaves.
    pub subdomain: Option<String>,
    /// Its URL's host name.
    pub host: Option<String>,
    /// As the document wants it; absent: it shall not exist.
    pub run: Option<RunState>,
    /// As it is reported.
    pub status: DeploymentStatus,
    /// Why it is stopped, where no operator wanted that: its revision was given up.
    pub given_up: Option<Failure>,
    /// For how many more seconds its guard watches the revision; absent: no longer, or never.
    #[serde(default)]
    pub guarded_s: Option<u64>,
    /// How often it was killed for memory, as far as its guard has seen.
    #[serde(default)]
    pub kills: usize,
    /// In how many seconds it is tried again, after a failure; absent: nothing waits.
    #[serde(default)]
    pub retry_s: Option<u64>,
    /// Where its visitors go; absent: to the page that knows no such app.
    pub target: Option<Target>,
    pub containers: Vec<ContainerSnapshot>,
    /// Steps that run now.
    pub doing: Vec<String>,
    /// Steps that are planned and wait for their turn.
    pub planned: Vec<String>,
    /// In how many milliseconds it is looked at again, should nothing happen.
    pub next_look_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSnapshot {
    pub name: String,
    /// Podman's word for its state.
    pub state: String,
    /// Where it is published.
    pub address: Option<SocketAddrV4>,
    pub health: Option<String>,
    /// It gets no new requests, and leaves when those under way had their time.
    #[serde(default)]
    pub drains: bool,
    /// Why the last probe failed.
    pub problem: Option<String>,
}
