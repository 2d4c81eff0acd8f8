//! Hosts and the tokens they join with.

use buddo_shared::host_wire::report::HostStatus;
use buddo_shared::host_wire::sealed::SealingKey;
use buddo_shared::model::id::{Generation, HostId};
use jiff::Timestamp;

use super::{HostIdentity, Result};
use crate::domain::capacity::Demand;
pub use crate::domain::capacity::Load;
use crate::domain::scheduler::ClosedHosts;

/// A host that has joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Identifier, also the name in its certificate.
    pub id: HostId,
    /// Name for people; `host_server` of its deployments.
    pub name: String,
    /// `host:port` where its agent listens.
    pub address: String,
    /// The key that its secrets are sealed to.
    pub sealing_key: SealingKey,
    /// When it joined, or joined again.
    pub joined_at: Timestamp,
    /// The newest desired state: each change raises it by one.
    pub wanted: Generation,
    /// The newest generation that it has acknowledged.
    pub acknowledged: Option<Generation>,
    /// Sequence number of the last committed report.
    pub report_seq: u64,
    /// Its last reported status.
    pub status: Option<HostStatus>,
    /// When the coordinator last connected to it.
    pub last_seen: Option<Timestamp>,
    /// Since when it is unreachable.
    pub unreachable_since: Option<Timestamp>,
    /// Why it lacks its newest document although it is reachable, and what to do.
    pub refusal: Option<String>,
    /// Limit on the memory it may claim, in MiB; `None`: as much as it reports.
    pub max_memory_mb: Option<u64>,
    /// When it was last cut off for sending more reports than allowed.
    pub flooded_at: Option<Timestamp>,
    /// Its key, certificate and trust.
    pub identity: HostIdentity,
}

/// Reachability of a host, as far as its deployments show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub name: String,
    /// Since when it is unreachable.
    pub unreachable_since: Option<Timestamp>,
    /// Since when it is locked.
    pub locked_at: Option<Timestamp>,
    /// Whether it is reachable but does not take its newest document.
    pub refuses: bool,
}

/// A search for hosts. Those that take no further deployments are never found.
#[derive(Debug, Clone, Copy)]
pub struct CandidateSearch<'a> {
    /// The demand that has to fit, and the overcommitment factor of hosts; `None`: nothing has to
    /// fit.
    pub fits: Option<(Demand, f64)>,
    /// A host unreachable since then, or longer, is lost.
    pub lost_at: Timestamp,
    pub except: &'a [HostId],
}

/// Where the last page ended in the order of hosts by room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateMark {
    /// 3: nothing but room spoke against the last host; 2: it was away.
    pub placement_rank: i64,
    /// MiB available to apps and not yet promised; below 0 if it is overcommitted.
    pub spare_mb: i64,
    pub host: HostId,
}

/// A host as the scheduler sees it, with its load and its position in the order of room.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateHost {
    /// Its last reported status, if readable.
    pub status: Option<HostStatus>,
    /// Limit on the memory it may claim, in MiB.
    pub max_memory_mb: Option<u64>,
    /// Since when it is unreachable.
    pub unreachable_since: Option<Timestamp>,
    /// Whether it is reachable but does not take its newest document.
    pub refuses: bool,
    /// The load of its deployments.
    pub load: Load,
    /// Which host, and where the next page starts.
    pub mark: CandidateMark,
}

/// A one-time join token as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// SHA-256 of the token's secret.
    pub hash: [u8; 32],
    /// The name of the new host.
    pub name: String,
    /// Limit on the memory the host may claim, in MiB; `None`: keep the previous limit.
    pub max_memory_mb: Option<u64>,
    /// After this it is refused.
    pub expires_at: Timestamp,
}

pub trait Hosts {
    /// All hosts that were not removed, by name.
    fn hosts(&self) -> Result<Vec<Host>>;
    /// One host, including removed ones.
    fn host(&self, id: HostId) -> Result<Option<Host>>;
    /// Reachability of a host: only a few columns, since it is read with each deployment shown.
    fn reach(&self, id: HostId) -> Result<Option<Reach>>;
    /// The load of a host, as updated with each change.
    fn load(&self, id: HostId) -> Result<Load>;
    /// Up to `limit` hosts that match `search`, those with the most room first and unreachable ones
    /// last. By the rule of [`place`](crate::domain::scheduler::place), except for an account's
    /// share.
    fn candidate_hosts(
        &self,
        search: CandidateSearch<'_>,
        after: Option<CandidateMark>,
        limit: u32,
    ) -> Result<Vec<CandidateHost>>;
    /// How many hosts take no further deployments, by reason; `lost_at` as in [`CandidateSearch`].
    fn closed_hosts(&self, lost_at: Timestamp) -> Result<ClosedHosts>;
    /// Hosts with a wrong load, at most `limit`. Sums over all deployments.
    fn miscounted_hosts(&self, limit: u32) -> Result<Vec<HostId>>;
    /// Recounts the load of a host and stores it.
    fn recount_load(&mut self, id: HostId) -> Result<()>;
    /// The host with this name.
    fn host_named(&self, name: &str) -> Result<Option<Host>>;
    /// Stores a new host, or a known one that joins again: address, keys, certificate and time. One
    /// that joins again may have lost its reports: they are taken from the first one on. It is no
    /// longer locked or removed.
    fn upsert_host(&mut self, host: &Host) -> Result<()>;
    /// Raises the host's desired generation by one and returns it.
    fn bump_generation(&mut self, id: HostId) -> Result<Generation>;
    /// Raises the epoch of all documents, to at least `floor`, and returns it. Hosts see it in
    /// their next generation.
    fn raise_epoch(&mut self, floor: u64) -> Result<u64>;
    /// Records what the host has acknowledged; clears its refusal.
    fn set_acknowledged(&mut self, id: HostId, generation: Generation) -> Result<()>;
    /// Records why the host lacks its newest document.
    fn set_refusal(&mut self, id: HostId, why: &str) -> Result<()>;
    /// Records the last committed report of the host.
    fn set_report_seq(&mut self, id: HostId, seq: u64) -> Result<()>;
    /// Records the host's reported status.
    fn set_host_status(&mut self, id: HostId, status: &HostStatus) -> Result<()>;
    /// Records that the host was cut off for sending more reports than allowed.
    fn set_flooded(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// Limits the memory that the host may claim.
    fn set_max_memory(&mut self, id: HostId, mb: Option<u64>) -> Result<()>;
    /// Records that the host was reached.
    fn set_reached(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// Records that the host is unreachable; the first such time is kept.
    fn set_unreachable(&mut self, id: HostId, since: Timestamp) -> Result<()>;
    /// Stores a join token and deletes expired ones.
    fn insert_join_token(&mut self, token: &JoinTokenRow, now: Timestamp) -> Result<()>;
    /// Takes the token with this hash, if it has not expired: it works once.
    fn take_join_token(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<Option<JoinTokenRow>>;
}
