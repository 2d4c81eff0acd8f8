//! Hosts and the tokens they join with.

use buddo_shared::id::{Generation, HostId};
use buddo_shared::report::HostStatus;
use buddo_shared::sealed::SealingKey;
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
    /// Where secrets for it are sealed to.
    pub sealing_key: SealingKey,
    /// When it joined, or joined again.
    pub joined_at: Timestamp,
    /// The newest desired state: every change of it is one higher.
    pub wanted: Generation,
    /// The newest one that it has acknowledged.
    pub acknowledged: Option<Generation>,
    /// The last report committed.
    pub report_seq: u64,
    /// What it last said of itself.
    pub status: Option<HostStatus>,
    /// When the coordinator last connected to it.
    pub last_seen: Option<Timestamp>,
    /// Since when it cannot be reached.
    pub unreachable_since: Option<Timestamp>,
    /// Why it does not have its newest document although it can be reached, and what to do.
    pub refusal: Option<String>,
    /// MiB of memory that it may claim at most; `None`: as much as it says.
    pub max_memory_mb: Option<u64>,
    /// When it was cut off last for sending more reports than it may.
    pub flooded_at: Option<Timestamp>,
    /// Its key, its certificate, whom it trusts.
    pub bond: HostIdentity,
}

/// How a host is reached, as far as its deployments are shown by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub name: String,
    /// Since when it cannot be reached.
    pub unreachable_since: Option<Timestamp>,
    /// Since when it is locked out.
    pub locked_at: Option<Timestamp>,
    /// Whether it can be reached and does not take its newest document.
    pub refuses: bool,
}

/// Which hosts are looked for. None of those that take no further deployment is found.
#[derive(Debug, Clone, Copy)]
pub struct RoomSearch<'a> {
    /// What has to fit, where each host promises so many times what apps may take of it; `None`:
    /// nothing has to.
    pub fits: Option<(Demand, f64)>,
    /// One that has been out of reach since then, or longer, is lost.
    pub lost_at: Timestamp,
    pub except: &'a [HostId],
}

/// Where in the order of room the last page of hosts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomMark {
    /// 3 where nothing but room spoke against the last host, 2 where it was away.
    pub standing: i64,
    /// MiB that apps may take and that are not promised; below 0 where it is overcommitted.
    pub spare_mb: i64,
    pub host: HostId,
}

/// A host as placement sees it, with its load and its place in the order of room.
#[derive(Debug, Clone, PartialEq)]
pub struct Roomy {
    /// What it last said of itself, where that can be read.
    pub status: Option<HostStatus>,
    /// MiB of memory that it may claim at most.
    pub max_memory_mb: Option<u64>,
    /// Since when it cannot be reached.
    pub unreachable_since: Option<Timestamp>,
    /// Whether it can be reached and does not take its newest document.
    pub refuses: bool,
    /// What its deployments take of it.
    pub load: Load,
    /// Which host, and where the next page goes on.
    pub mark: RoomMark,
}

/// A one-time join token as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// SHA-256 of the token's secret.
    pub hash: [u8; 32],
    /// The name that the host shall have.
    pub name: String,
    /// MiB of memory that the host may claim at most; `None`: what was decided before stays.
    pub max_memory_mb: Option<u64>,
    /// After this it is refused.
    pub expires_at: Timestamp,
}

pub trait Hosts {
    /// All hosts that were not removed, by name.
    fn hosts(&self) -> Result<Vec<Host>>;
    /// One host, also a removed one.
    fn host(&self, id: HostId) -> Result<Option<Host>>;
    /// How a host is reached: a few columns, for it is read with each deployment that is shown.
    fn reach(&self, id: HostId) -> Result<Option<Reach>>;
    /// What its deployments take of a host, as it is counted with each change.
    fn load(&self, id: HostId) -> Result<Load>;
    /// Up to `limit` hosts that `search` means, those with most room first and those that are away
    /// last. By the rule of [`place`](crate::domain::scheduler::place), but for an account's share.
    fn hosts_by_room(
        &self,
        search: RoomSearch<'_>,
        after: Option<RoomMark>,
        limit: u32,
    ) -> Result<Vec<Roomy>>;
    /// How many hosts take no further deployment, by reason; `lost_at` as in [`RoomSearch`].
    fn closed_hosts(&self, lost_at: Timestamp) -> Result<ClosedHosts>;
    /// Hosts whose load was counted wrongly, `limit` at most. Sums over all deployments.
    fn miscounted_hosts(&self, limit: u32) -> Result<Vec<HostId>>;
    /// Counts the load of a host afresh and keeps that.
    fn recount_load(&mut self, id: HostId) -> Result<()>;
    /// The host with this name.
    fn host_named(&self, name: &str) -> Result<Option<Host>>;
    /// Stores a new host, or a known one that joins again: its address, keys, certificate and
    /// time. One that joins again may have lost its reports: they are taken from the first one on.
    /// It is locked and removed no longer.
    fn upsert_host(&mut self, host: &Host) -> Result<()>;
    /// Raises the host's wanted generation by one and returns it.
    fn bump_generation(&mut self, id: HostId) -> Result<Generation>;
    /// Raises the epoch of all documents, to at least `floor`, and returns it. Hosts see it in
    /// their next generation.
    fn raise_epoch(&mut self, floor: u64) -> Result<u64>;
    /// Notes what the host has acknowledged; it then refuses nothing.
    fn set_acknowledged(&mut self, id: HostId, generation: Generation) -> Result<()>;
    /// Notes why the host does not have its newest document.
    fn set_refusal(&mut self, id: HostId, why: &str) -> Result<()>;
    /// Notes the last committed report of the host.
    fn set_report_seq(&mut self, id: HostId, seq: u64) -> Result<()>;
    /// Notes what the host says of itself.
    fn set_host_status(&mut self, id: HostId, status: &HostStatus) -> Result<()>;
    /// Notes that the host was cut off for sending more reports than it may.
    fn set_flooded(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// Decides how much memory the host may claim.
    fn set_max_memory(&mut self, id: HostId, mb: Option<u64>) -> Result<()>;
    /// Notes that the host was reached.
    fn set_reached(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// Notes that the host could not be reached; the first such time is kept.
    fn set_unreachable(&mut self, id: HostId, since: Timestamp) -> Result<()>;
    /// Stores a join token and forgets expired ones.
    fn insert_join_token(&mut self, token: &JoinTokenRow, now: Timestamp) -> Result<()>;
    /// Takes the token with this hash out, if it has not expired: it works once.
    fn take_join_token(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<Option<JoinTokenRow>>;
}
