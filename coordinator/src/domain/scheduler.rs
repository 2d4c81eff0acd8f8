//! Which host a new deployment goes to. Pure: the caller provides all counts.

use std::cmp::Reverse;
use std::fmt;

use buddo_shared::model::id::HostId;

use crate::domain::capacity::{Demand, Load};

/// Maximum bytes of environments on one host. They are all in its document, sealed and encoded to
/// nearly twice their size, and no host takes a document above a limit
/// ([`MAX_ENVELOPE`](buddo_shared::host_wire::signed::MAX_ENVELOPE)).
pub const MAX_ENV_BYTES: u64 = 8 * 1024 * 1024;

/// Maximum bytes of one account's environments on one host: no account can take all the room.
pub const MAX_ACCOUNT_ENV_BYTES: u64 = MAX_ENV_BYTES / 4;

/// Maximum bytes of a document that its deployments need. Three quarters of the limit: the rest is
/// for automatic rollbacks and for images that are kept.
pub const MAX_DOCUMENT_BYTES: u64 = 18 * 1024 * 1024;

/// Maximum bytes of environments that automatic rollbacks add to a document, each that of its
/// fallback revision. Deploys beyond that have no automatic rollback.
pub const MAX_FALLBACK_BYTES: u64 = 4 * 1024 * 1024;

/// A host as the scheduler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub id: HostId,
    /// MiB for apps and their overhead, overcommitment included.
    pub budget_mb: u64,
    /// The load of its current deployments.
    pub load: Load,
    /// Bytes of environments that the new app's account already has on it.
    pub account_env_bytes: u64,
    /// Whether it takes apps now.
    pub availability: Availability,
}

/// Whether a host takes new apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Open,
    /// It did until a moment ago and is expected back: the last resort.
    Away,
    Closed(Closed),
}

/// Why a host takes no new app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// An administrator drained it.
    Drained,
    /// There are two copies of it.
    Locked,
    /// It has been unreachable for too long.
    Lost,
    /// It reports that it lacks resources to start another container.
    Short,
    /// It has not reported its capacity yet.
    Unknown,
}

/// Hosts that take no new app, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosedHosts {
    /// [`Closed::Drained`].
    pub drained: u32,
    /// [`Closed::Locked`].
    pub locked: u32,
    /// [`Closed::Lost`].
    pub lost: u32,
    /// [`Closed::Short`].
    pub short: u32,
    /// [`Closed::Unknown`].
    pub unknown: u32,
}

impl ClosedHosts {
    fn of(hosts: &[Candidate]) -> Self {
        let mut closed = Self::default();
        for host in hosts {
            match host.availability {
                Availability::Open | Availability::Away => {}
                Availability::Closed(Closed::Drained) => closed.drained += 1,
                Availability::Closed(Closed::Locked) => closed.locked += 1,
                Availability::Closed(Closed::Lost) => closed.lost += 1,
                Availability::Closed(Closed::Short) => closed.short += 1,
                Availability::Closed(Closed::Unknown) => closed.unknown += 1,
            }
        }
        closed
    }
}

impl fmt::Display for ClosedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.drained, "drained"),
            (self.locked, "locked"),
            (self.lost, "not reached for an hour"),
            (self.short, "short of what a container takes"),
            (self.unknown, "not reported yet"),
        ];
        let mut some = reasons.into_iter().filter(|(count, _)| *count > 0).peekable();
        if some.peek().is_none() {
            return f.write_str("none has joined");
        }
        for (index, (count, reason)) in some.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {reason}")?;
        }
        Ok(())
    }
}

/// No host has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// No host takes new apps.
    #[error(
        "no host takes new apps at the moment ({0}); nothing was created: try again later, or ask \
         the platform's administrator, who sees why in `buddo-coordinator host list`"
    )]
    NoHost(ClosedHosts),
    /// No host has enough free memory.
    #[error(
        "needs {needed} MB of memory and the emptiest host has {free}; \
         destroy what is not needed, choose a smaller tier, or try again later"
    )]
    Memory {
        needed: u64,
        /// MiB of the largest app that would still fit somewhere.
        free: u64,
    },
    /// The hosts with enough memory have no room for so large an environment.
    #[error(
        "has an environment of {0} bytes, for which no host has room; \
         send fewer or shorter variables, or try again later"
    )]
    Environment(u64),
    /// The hosts with enough memory have no room in their documents.
    #[error(
        "fits on no host: those with free memory have the most apps they can take; try again later"
    )]
    Document,
    /// The hosts with room already hold the account's full share.
    #[error(
        "has an environment of {env_bytes} bytes, and those of the account's apps on one host may have \
         {MAX_ACCOUNT_ENV_BYTES} together; send fewer or shorter variables, or destroy an app that \
         is not needed"
    )]
    Share {
        /// Bytes of the new environment.
        env_bytes: u64,
    },
}

impl Candidate {
    /// MiB left of the budget under `load`.
    fn left_mb(&self, load: Load) -> Option<u64> {
        self.budget_mb.checked_sub(load.memory_mb())
    }

    fn has_memory(&self, demand: Demand) -> bool {
        self.left_mb(self.load.with(demand)).is_some()
    }

    fn has_document(&self, demand: Demand) -> bool {
        let load = self.load.with(demand);
        load.env_bytes <= MAX_ENV_BYTES && load.document_bytes() <= MAX_DOCUMENT_BYTES
    }

    /// Whether the account's share allows it. An app without an environment uses none.
    fn has_share(&self, demand: Demand) -> bool {
        let bytes = self.account_env_bytes.saturating_add(demand.env_bytes);
        demand.env_bytes == 0 || bytes <= MAX_ACCOUNT_ENV_BYTES
    }

    fn has_room(&self, demand: Demand) -> bool {
        self.has_memory(demand) && self.has_document(demand) && self.has_share(demand)
    }

    /// MiB of the largest app that still fits: it needs more than its own limit, so this is a
    /// search, not a subtraction.
    fn free_mb(&self) -> u64 {
        let fits = |memory_mb: u64| self.has_memory(Demand { memory_mb, env_bytes: 0 });
        let (mut low, mut high) = (0, self.budget_mb);
        while low < high {
            let middle = high - (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }
}

/// Chooses the host with the most free memory among those where it fits; a reachable host before an
/// unreachable one, never a closed one. Ties go to the lowest id, so that the choice is
/// reproducible.
pub fn place(demand: Demand, hosts: &[Candidate]) -> Result<HostId, NoRoom> {
    let open = || hosts.iter().filter(|host| !matches!(host.availability, Availability::Closed(_)));
    open()
        .filter(|host| host.has_room(demand))
        .max_by_key(|host| {
            let is_open = host.availability == Availability::Open;
            (is_open, host.left_mb(host.load.with(demand)), Reverse(host.id))
        })
        .map(|host| host.id)
        .ok_or_else(|| match open().map(Candidate::free_mb).max() {
            None => NoRoom::NoHost(ClosedHosts::of(hosts)),
            Some(free) if free >= demand.memory_mb => {
                let but_for_the_share =
                    |host: &Candidate| host.has_memory(demand) && host.has_document(demand);
                if open().any(but_for_the_share) {
                    NoRoom::Share { env_bytes: demand.env_bytes }
                } else if demand.env_bytes == 0 {
                    NoRoom::Document
                } else {
                    NoRoom::Environment(demand.env_bytes)
                }
            }
            Some(free) => NoRoom::Memory { needed: demand.memory_mb, free },
        })
}

#[cfg(test)]
mod tests;
