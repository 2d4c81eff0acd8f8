//! Which host a new deployment goes to.

use buddo_shared::id::HostId;
use buddo_shared::limits::Limits;

/// A host as placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which host.
    pub id: HostId,
    /// MiB that may be promised on it, overcommitment included; 0 until it has reported.
    pub memory_mb: u64,
    /// MiB already promised.
    pub reserved_mb: u64,
    /// Bytes of environments that its document carries already.
    pub env_bytes: u64,
    /// Whether it can be reached now.
    pub reachable: bool,
}

/// Bytes of environments on one host at most. They are all in its document, sealed and encoded to
/// nearly twice their size, and a document has an upper limit
/// ([`MAX_ENVELOPE`](buddo_shared::signed::MAX_ENVELOPE)) beyond which no host takes it.
pub const MAX_ENV_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of environments that guards may add to a document, each that of the revision it would
/// put back. What is beyond goes without a guard.
pub const MAX_FALLBACK_BYTES: u64 = 4 * 1024 * 1024;

impl Candidate {
    fn free_mb(&self) -> u64 {
        self.memory_mb.saturating_sub(self.reserved_mb)
    }
}

/// No host has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There is no host.
    #[error("no host takes deployments; ask the platform's administrator to add one")]
    NoHost,
    /// The largest hole is too small.
    #[error(
        "needs {needed} MB of memory and the emptiest host has {free}; \
         destroy what is not needed, choose a smaller tier, or try again later"
    )]
    Memory {
        /// MiB asked for.
        needed: u64,
        /// MiB of the largest hole.
        free: u64,
    },
    /// Where there is memory, there is no room for so large an environment.
    #[error(
        "has an environment of {0} bytes, for which no host has room; \
         send fewer or shorter variables, or try again later"
    )]
    Environment(u64),
}

/// Chooses the host with most free memory that fits, one that can be reached before one that
/// cannot. Ties go to the lowest id, so that the choice can be repeated.
pub fn place(limits: &Limits, env_bytes: u64, hosts: &[Candidate]) -> Result<HostId, NoRoom> {
    let needed = u64::from(limits.memory_mb);
    hosts
        .iter()
        .filter(|host| host.free_mb() >= needed)
        .filter(|host| host.env_bytes.saturating_add(env_bytes) <= MAX_ENV_BYTES)
        .max_by_key(|host| (host.reachable, host.free_mb(), std::cmp::Reverse(host.id)))
        .map(|host| host.id)
        .ok_or_else(|| match hosts.iter().map(Candidate::free_mb).max() {
            None => NoRoom::NoHost,
            Some(free) if free >= needed => NoRoom::Environment(env_bytes),
            Some(free) => NoRoom::Memory { needed, free },
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn limits(memory_mb: u32) -> Limits {
        Limits { memory_mb, cpu_millicores: 250, pids: 256 }
    }

    fn host(n: u128, memory_mb: u64, reserved_mb: u64, reachable: bool) -> Candidate {
        let id = HostId::new(Uuid::from_u128(n));
        Candidate { id, memory_mb, reserved_mb, env_bytes: 0, reachable }
    }

    #[test]
    fn a_document_does_not_outgrow_what_hosts_take() {
        let nearly = Candidate { env_bytes: MAX_ENV_BYTES - 10, ..host(1, 9000, 0, true) };
        let smaller = host(2, 1000, 0, true);
        assert_eq!(place(&limits(256), 10, &[nearly, smaller]), Ok(nearly.id));
        assert_eq!(place(&limits(256), 11, &[nearly, smaller]), Ok(smaller.id));
        assert_eq!(place(&limits(256), 11, &[nearly]), Err(NoRoom::Environment(11)));
        // Sealed to base64, signed to base64 again, and some more around each.
        let sealed = usize::try_from(MAX_ENV_BYTES + MAX_FALLBACK_BYTES).unwrap() * 16 / 9;
        assert!(sealed + 8 * 1024 * 1024 < buddo_shared::signed::MAX_ENVELOPE);
    }

    #[test]
    fn refusals_say_what_is_missing() {
        assert_eq!(place(&limits(256), 0, &[]), Err(NoRoom::NoHost));
        let full = [host(1, 1000, 900, true), host(2, 0, 0, true)];
        assert_eq!(place(&limits(256), 0, &full), Err(NoRoom::Memory { needed: 256, free: 100 }));
    }

    #[test]
    fn a_host_that_is_away_is_the_last_resort() {
        let hosts = [host(1, 8000, 0, false), host(2, 1000, 0, true)];
        assert_eq!(place(&limits(256), 0, &hosts), Ok(hosts[1].id));
        assert_eq!(place(&limits(2000), 0, &hosts), Ok(hosts[0].id));
    }

    fn any_hosts() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (any::<u128>(), 0..4096u64, 0..4096u64, any::<bool>());
        prop::collection::vec(one.prop_map(|(n, memory, used, up)| host(n, memory, used, up)), 0..8)
    }

    proptest! {
        #[test]
        fn the_choice_fits_and_none_that_fits_is_missed(
            hosts in any_hosts(),
            needed in 1..4096u32,
        ) {
            let fits = |host: &&Candidate| host.free_mb() >= u64::from(needed);
            let fitting: Vec<_> = hosts.iter().filter(fits).collect();
            let Ok(id) = place(&limits(needed), 0, &hosts) else {
                prop_assert!(fitting.is_empty());
                return Ok(());
            };
            let chosen = fitting.iter().find(|host| host.id == id);
            prop_assert!(chosen.is_some());
            let better = |host: &&&Candidate| host.reachable && !chosen.unwrap().reachable;
            prop_assert_eq!(fitting.iter().filter(better).count(), 0);
        }

        #[test]
        fn the_order_of_hosts_does_not_matter(mut hosts in any_hosts(), needed in 1..4096u32) {
            let first = place(&limits(needed), 0, &hosts);
            hosts.reverse();
            prop_assert_eq!(first, place(&limits(needed), 0, &hosts));
        }
    }
}
