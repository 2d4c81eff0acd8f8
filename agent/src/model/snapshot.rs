//! The state of this host, for display: one value per pass, plain data.

use std::net::SocketAddrV4;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{DeploymentStatus, Failure, HostStatus};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::cgroup::CgroupCounts;
use crate::model::live_table::Target;

/// The host as the last pass saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSnapshot {
    /// Whether this host belongs to a coordinator.
    pub joined: bool,
    /// As it is reported.
    pub host: HostStatus,
    /// The deployments that are desired or still exist.
    pub deployments: Vec<DeploymentSnapshot>,
}

/// One deployment as the last pass saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSnapshot {
    /// Its name in the zone; absent while it is being removed.
    pub subdomain: Option<String>,
    /// Its URL's host name.
    pub host: Option<String>,
    /// The desired run state; absent: the deployment should not exist.
    pub run: Option<RunState>,
    /// As it is reported.
    pub status: DeploymentStatus,
    /// Why it is stopped although no operator asked for it: its revision was given up.
    pub given_up: Option<Failure>,
    /// For how many more seconds auto rollback watches the revision; absent: it does not.
    #[serde(default)]
    pub watched_s: Option<u64>,
    /// How often it was killed for memory, as far as auto rollback has seen.
    #[serde(default)]
    pub kills: usize,
    /// What the kernel counted since its containers were started, at most a minute ago; absent: it
    /// counts nothing here, or nobody has looked yet.
    #[serde(default)]
    pub counts: Option<CgroupCounts>,
    /// The last end of a container that served, for ten minutes.
    #[serde(default)]
    pub last_exit: Option<ExitSnapshot>,
    /// Seconds until the next retry after a failure; absent: nothing waits.
    #[serde(default)]
    pub retry_s: Option<u64>,
    /// Where its visitors go; absent: to the page for unknown apps.
    pub target: Option<Target>,
    pub containers: Vec<ContainerSnapshot>,
    /// Steps running now.
    pub doing: Vec<String>,
    /// Planned steps waiting for their turn.
    pub planned: Vec<String>,
    /// Milliseconds until it is planned again if nothing happens.
    pub next_look_ms: Option<u64>,
}

/// How a container that served ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitSnapshot {
    /// Its exit code; absent: nobody knows it, as after a power loss.
    pub code: Option<i32>,
    /// Whether it is known that the kernel killed it for memory: a code of 137 alone says only that
    /// it was killed.
    pub oom: bool,
    /// When that was noticed.
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSnapshot {
    pub name: String,
    /// Podman's word for its state.
    pub state: String,
    /// Where it is published.
    pub address: Option<SocketAddrV4>,
    pub health: Option<String>,
    /// It gets no new requests, and is removed once it has drained.
    #[serde(default)]
    pub drains: bool,
    /// Why the last probe failed.
    pub problem: Option<String>,
}
