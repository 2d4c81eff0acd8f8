//! The hosts as placement sees them.

use buddo_shared::id::{AccountId, HostId};
use buddo_shared::report::HostStatus;
use jiff::{SignedDuration, Timestamp};

use crate::domain::capacity::{Capacity, Demand};
use crate::domain::scheduler::{
    Availability, Candidate, Closed, MAX_ACCOUNT_ENV_BYTES, NoRoom, place,
};
use crate::service::deployments::DeployError;
use crate::store::Tables;
use crate::store::contract::{Host, RoomSearch, Roomy};

/// A host that could not be reached for so long gets no new app: it is not about to come back.
const LOST: SignedDuration = SignedDuration::from_hours(1);

/// Hosts that are looked at in one go.
const PAGE: u32 = 16;

/// Such goes at most. The database names only hosts that fit, by the same rule, so that the first one
/// is enough; where it errs, no deployment takes longer than this.
const PAGES: usize = 4;

/// Where a deployment is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    pub(super) account: AccountId,
    pub(super) demand: Demand,
    /// How many times what its apps may take a host promises.
    pub(super) overcommit: f64,
    pub(super) now: Timestamp,
    /// The host that it leaves.
    pub(super) from: Option<HostId>,
}

/// The host for a deployment: the rule of [`place`] over a few hosts at a time, those with most room
/// first. With more than [`PAGE`] hosts it may choose another than the rule would choose among all,
/// where the largest app of one is larger than that of another; to look at all of them for each
/// deployment takes longer than all the rest of it.
pub(super) fn choose(tables: &dyn Tables, search: Search) -> Result<HostId, DeployError> {
    let Search { account, demand, overcommit, now, from } = search;
    // Only an environment takes a share of what an account may have on a host.
    let taken = if demand.env_bytes > 0 { tables.env_bytes_of(account)? } else { Vec::new() };
    let lost_at = now.checked_sub(LOST).unwrap_or(Timestamp::MIN);
    let from: Vec<HostId> = from.into_iter().collect();
    let has_no_share = |bytes: u64| bytes.saturating_add(demand.env_bytes) > MAX_ACCOUNT_ENV_BYTES;
    let full = taken.iter().filter(|(_, bytes)| has_no_share(*bytes)).map(|(host, _)| *host);
    let except: Vec<HostId> = from.iter().copied().chain(full).collect();
    let candidates = |found: &[Roomy]| -> Vec<Candidate> {
        found.iter().map(|roomy| candidate(roomy, &taken, overcommit, now)).collect()
    };
    let fits = Some((demand, overcommit));
    let mut after = None;
    for _ in 0..PAGES {
        let search = RoomSearch { fits, lost_at, except: &except };
        let found = tables.hosts_by_room(search, after, PAGE)?;
        if let Ok(host) = place(demand, &candidates(&found)) {
            return Ok(host);
        }
        if found.len() < PAGE as usize {
            break;
        }
        after = found.last().map(|roomy| roomy.mark);
    }
    // Nothing fits. For the words why not: those that come closest.
    let search = RoomSearch { fits: None, lost_at, except: &from };
    let closest = tables.hosts_by_room(search, None, PAGE)?;
    match place(demand, &candidates(&closest)) {
        Err(NoRoom::NoHost(_)) => Err(NoRoom::NoHost(tables.closed_hosts(lost_at)?).into()),
        placed => Ok(placed?),
    }
}

fn candidate(host: &Roomy, taken: &[(HostId, u64)], overcommit: f64, now: Timestamp) -> Candidate {
    let id = host.mark.host;
    let own = taken.iter().find(|(taken_of, _)| *taken_of == id);
    Candidate {
        id,
        budget_mb: capacity_of(host.status.as_ref(), host.max_memory_mb).budget_mb(overcommit),
        load: host.load,
        account_env_bytes: own.map_or(0, |(_, bytes)| *bytes),
        availability: availability(host, now),
    }
}

/// What the host says that it has, as far as it is believed; nothing until it has said so.
pub(crate) fn capacity(host: &Host) -> Capacity {
    capacity_of(host.status.as_ref(), host.max_memory_mb)
}

fn capacity_of(status: Option<&HostStatus>, max_memory_mb: Option<u64>) -> Capacity {
    status.map_or_else(Capacity::default, |status| Capacity {
        memory_mb: status.memory_mb,
        max_memory_mb,
        allocatable_mb: status.allocatable_mb,
    })
}

/// Those that are drained or locked the database leaves out.
fn availability(host: &Roomy, now: Timestamp) -> Availability {
    let is_lost = host.unreachable_since.is_some_and(|since| now.duration_since(since) >= LOST);
    let lacks = |status: &HostStatus| status.lacks.is_some();
    if is_lost {
        Availability::Closed(Closed::Lost)
    } else if host.status.is_none() {
        Availability::Closed(Closed::Unknown)
    } else if host.status.as_ref().is_some_and(lacks) {
        Availability::Closed(Closed::Short)
    } else if host.unreachable_since.is_some() || host.refuses {
        Availability::Away
    } else {
        Availability::Open
    }
}

#[cfg(test)]
mod tests;
