//! The hosts as placement sees them.

use buddo_shared::id::AccountId;
use jiff::{SignedDuration, Timestamp};

use crate::domain::capacity::{Capacity, Load};
use crate::domain::place::{Availability, Candidate, Closed};
use crate::store::contract::Host;
use crate::store::{StoreError, Tables};

/// A host that could not be reached for so long gets no new app: it is not about to come back.
const LOST: SignedDuration = SignedDuration::from_hours(1);

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
