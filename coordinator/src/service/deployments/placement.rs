//! Scheduling: candidate hosts from the database.

use buddo_shared::host_wire::report::HostStatus;
use buddo_shared::model::id::{AccountId, HostId};
use jiff::{SignedDuration, Timestamp};

use crate::domain::capacity::{Capacity, Demand};
use crate::domain::scheduler::{
    Availability, Candidate, Closed, MAX_ACCOUNT_ENV_BYTES, NoRoom, place,
};
use crate::service::deployments::DeployError;
use crate::store::Tables;
use crate::store::contract::{CandidateHost, CandidateSearch, Host};

/// A host unreachable for this long gets no new app: it is not about to come back.
const LOST: SignedDuration = SignedDuration::from_hours(1);

/// Hosts examined per page.
const PAGE: u32 = 16;

/// Maximum number of pages. The database returns only hosts that fit, by the same rule, so that the
/// first page is enough; if it errs, this bounds the time.
const PAGES: usize = 4;

/// A deployment to place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    pub(super) account: AccountId,
    pub(super) demand: Demand,
    /// Memory overcommitment of hosts.
    pub(super) overcommit: f64,
    pub(super) now: Timestamp,
    /// The host that it leaves.
    pub(super) from: Option<HostId>,
}

/// The host for a deployment: applies [`place`] to a few hosts at a time, those with the most room
/// first. With more than [`PAGE`] hosts the choice may differ from that among all, if the largest
/// app of one host is larger than that of another; examining all of them for each deployment takes
/// longer than everything else.
pub(super) fn choose(tables: &dyn Tables, search: Search) -> Result<HostId, DeployError> {
    let Search { account, demand, overcommit, now, from } = search;
    // Only an environment uses the account's share of a host.
    let taken = if demand.env_bytes > 0 { tables.env_bytes_of(account)? } else { Vec::new() };
    let lost_at = now.checked_sub(LOST).unwrap_or(Timestamp::MIN);
    let from: Vec<HostId> = from.into_iter().collect();
    let has_no_share = |bytes: u64| bytes.saturating_add(demand.env_bytes) > MAX_ACCOUNT_ENV_BYTES;
    let full = taken.iter().filter(|(_, bytes)| has_no_share(*bytes)).map(|(host, _)| *host);
    let except: Vec<HostId> = from.iter().copied().chain(full).collect();
    let candidates = |found: &[CandidateHost]| -> Vec<Candidate> {
        found.iter().map(|host| candidate(host, &taken, overcommit, now)).collect()
    };
    let fits = Some((demand, overcommit));
    let mut after = None;
    for _ in 0..PAGES {
        let search = CandidateSearch { fits, lost_at, except: &except };
        let found = tables.candidate_hosts(search, after, PAGE)?;
        if let Ok(host) = place(demand, &candidates(&found)) {
            return Ok(host);
        }
        if found.len() < PAGE as usize {
            break;
        }
        after = found.last().map(|host| host.mark);
    }
    // Nothing fits. The hosts that come closest are used for the error message.
    let search = CandidateSearch { fits: None, lost_at, except: &from };
    let closest = tables.candidate_hosts(search, None, PAGE)?;
    match place(demand, &candidates(&closest)) {
        Err(NoRoom::NoHost(_)) => Err(NoRoom::NoHost(tables.closed_hosts(lost_at)?).into()),
        placed => Ok(placed?),
    }
}

fn candidate(
    host: &CandidateHost,
    taken: &[(HostId, u64)],
    overcommit: f64,
    now: Timestamp,
) -> Candidate {
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

/// The reported capacity of the host, as far as it is believed; zero until it has reported.
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

/// The database excludes drained and locked hosts.
fn availability(host: &CandidateHost, now: Timestamp) -> Availability {
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
