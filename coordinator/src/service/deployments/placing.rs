//! The hosts as placement sees them.

use buddo_shared::id::{AccountId, HostId};
use jiff::{SignedDuration, Timestamp};

use super::DeployError;
use crate::domain::capacity::{Capacity, Demand, Load};
use crate::domain::place::{Availability, Candidate, Closed, NoRoom, place};
use crate::store::contract::{Host, RoomMark, Roomy};
use crate::store::{StoreError, Tables};

/// A host that could not be reached for so long gets no new app: it is not about to come back.
const LOST: SignedDuration = SignedDuration::from_hours(1);

/// Hosts that are looked at in one go.
const PAGE: u32 = 16;

/// The host for a new deployment of `account`: the rule of [`place`] over a few hosts at a time,
/// those with most room first. With more than [`PAGE`] hosts it may choose another than the rule
/// would choose among all, where hosts keep different amounts for themselves; to look at all of
/// them for each deployment takes longer than all the rest of it.
pub(super) fn choose(
    tables: &dyn Tables,
    account: AccountId,
    demand: Demand,
    overcommit: f64,
    now: Timestamp,
) -> Result<HostId, DeployError> {
    let page = |memory_mb, overcommit_by, after: Option<RoomMark>| {
        let found = tables.hosts_by_room(memory_mb, overcommit_by, after, PAGE)?;
        let last = found.last().map(|roomy| roomy.mark);
        let seen = |Roomy { host, load, .. }: &Roomy| candidate(host, *load, overcommit, now);
        let mut hosts: Vec<Candidate> = found.iter().map(seen).collect();
        of_account(tables, account, &mut hosts)?;
        Ok::<_, StoreError>((hosts, last))
    };
    let mut after = None;
    loop {
        let (hosts, last) = page(demand.memory_mb, overcommit, after)?;
        if let Ok(host) = place(demand, &hosts) {
            return Ok(host);
        }
        if hosts.len() < PAGE as usize {
            break;
        }
        after = last;
    }
    // Nothing fits. For the words why not: those that come closest, or all if none of them is open.
    let (mut hosts, _) = page(0, f64::MAX, None)?;
    if let Err(NoRoom::NoHost(_)) = place(demand, &hosts) {
        hosts = candidates(tables, overcommit, now)?;
        of_account(tables, account, &mut hosts)?;
    }
    Ok(place(demand, &hosts)?)
}

/// All hosts, each with what it has left.
pub(super) fn candidates(
    tables: &dyn Tables,
    overcommit: f64,
    now: Timestamp,
) -> Result<Vec<Candidate>, StoreError> {
    let counted = |host: Host| Ok(candidate(&host, tables.load(host.id)?, overcommit, now));
    tables.hosts()?.into_iter().map(counted).collect()
}

/// The same with what the account has on each of them.
pub(super) fn of_account(
    tables: &dyn Tables,
    account: AccountId,
    hosts: &mut [Candidate],
) -> Result<(), StoreError> {
    let taken = tables.env_bytes_of(account)?;
    for host in hosts {
        let own = taken.iter().find(|(id, _)| *id == host.id);
        host.account_env_bytes = own.map_or(0, |(_, bytes)| *bytes);
    }
    Ok(())
}

fn candidate(host: &Host, load: Load, overcommit: f64, now: Timestamp) -> Candidate {
    Candidate {
        id: host.id,
        budget_mb: capacity(host).budget_mb(overcommit),
        load,
        account_env_bytes: 0,
        availability: availability(host, now),
    }
}

/// What the host says that it has, as far as it is believed; nothing until it has said so.
pub(crate) fn capacity(host: &Host) -> Capacity {
    host.status.as_ref().map_or_else(Capacity::default, |status| Capacity {
        memory_mb: status.memory_mb,
        max_memory_mb: host.max_memory_mb,
        allocatable_mb: status.allocatable_mb,
    })
}

fn availability(host: &Host, now: Timestamp) -> Availability {
    let is_lost = host.unreachable_since.is_some_and(|since| now.duration_since(since) >= LOST);
    if host.bond.locked_at.is_some() {
        Availability::Closed(Closed::Locked)
    } else if host.bond.drained_at.is_some() {
        Availability::Closed(Closed::Drained)
    } else if is_lost {
        Availability::Closed(Closed::Lost)
    } else if host.status.is_none() {
        Availability::Closed(Closed::Unknown)
    } else if host.status.as_ref().is_some_and(|status| status.lacks.is_some()) {
        Availability::Closed(Closed::Short)
    } else if host.unreachable_since.is_some() || host.refusal.is_some() {
        Availability::Away
    } else {
        Availability::Open
    }
}

#[cfg(test)]
mod tests;
