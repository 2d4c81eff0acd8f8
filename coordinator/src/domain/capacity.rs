//! How much a host can carry and how much its deployments use. Pure.
//!
//! ```text
//! MemTotal ─ reserve (system, edge, agent) ─► × overcommit = budget
//! budget ≥ memory limits of all apps + one helper each + one rolling update of the largest app
//! ```
//!
//! A host is full before it swaps: memory the host needs for itself is never promised to apps.

/// Memory reserved for the system, the edge, the agent and Podman's service, in MiB.
const RESERVE_MB: u64 = 384;

/// Plus this fraction (1/n) of all memory: page tables, file caches and kernel structures grow with
/// it.
const RESERVE_PART: u64 = 32;

/// Memory of the processes beside each container (its monitor and its port forwarder), in KiB: 3.2
/// MB measured with a thousand of them.
pub const HELPER_KIB: u64 = 3277;

/// Maximum size in bytes of a deployment's entry in the host's document, without its environment.
pub const DESIRED_BYTES: u64 = 2048;

/// What the deployments of a host use, destroyed ones excluded. Sums and a maximum, so that they
/// can be kept as counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// MiB promised to them.
    pub reserved_mb: u64,
    /// Number of containers, one per deployment.
    pub containers: u64,
    /// MiB promised to the largest of them.
    pub largest_mb: u64,
    /// Bytes of their encrypted environments.
    pub env_bytes: u64,
}

/// What a new deployment needs on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    pub memory_mb: u64,
    /// Bytes of its environment.
    pub env_bytes: u64,
}

impl Load {
    /// The load with one more deployment.
    #[must_use]
    pub fn with(self, demand: Demand) -> Self {
        Self {
            reserved_mb: self.reserved_mb.saturating_add(demand.memory_mb),
            containers: self.containers.saturating_add(1),
            largest_mb: self.largest_mb.max(demand.memory_mb),
            env_bytes: self.env_bytes.saturating_add(demand.env_bytes),
        }
    }

    /// Maximum size in bytes in the host's document, without what apps can run without;
    /// environments are sealed and in base64.
    pub fn document_bytes(self) -> u64 {
        let envs = self.env_bytes.saturating_mul(4).div_ceil(3);
        self.containers.saturating_mul(DESIRED_BYTES).saturating_add(envs)
    }

    /// Worst-case memory in MiB: every app at its limit, and the largest one running twice while it
    /// is replaced.
    pub fn memory_mb(self) -> u64 {
        if self.containers == 0 {
            return 0;
        }
        let containers = self.containers.saturating_add(1);
        let helpers_mb = containers.saturating_mul(HELPER_KIB).div_ceil(1024);
        self.reserved_mb.saturating_add(self.largest_mb).saturating_add(helpers_mb)
    }
}

/// The capacity that a host reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    pub memory_mb: u64,
    /// The most the platform's administrator believes, in MiB: the host itself may be compromised.
    pub max_memory_mb: Option<u64>,
    /// What the host's administrator allows for apps, in MiB; if set, no reserve is subtracted.
    pub allocatable_mb: Option<u64>,
}

impl Capacity {
    /// The reported memory in MiB, capped by what the administrator believes.
    pub fn believed_mb(self) -> u64 {
        self.max_memory_mb.map_or(self.memory_mb, |most| most.min(self.memory_mb))
    }

    /// MiB that apps, their helpers and one rolling update may use together.
    pub fn budget_mb(self, overcommit: f64) -> u64 {
        let memory_mb = self.believed_mb();
        let reserve = RESERVE_MB + memory_mb / RESERVE_PART;
        let free = memory_mb.saturating_sub(reserve);
        // Never more than the reported memory: a setting meant for another machine stays harmless.
        let allocatable = self.allocatable_mb.map_or(free, |mb| mb.min(memory_mb));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a budget in MiB; the factor is checked to be 0.1 to 100"
        )]
        let budget = (allocatable as f64 * overcommit) as u64;
        budget
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(memory_mb: u64) -> Demand {
        Demand { memory_mb, env_bytes: 0 }
    }

    #[test]
    fn a_small_host_fits_one_app_and_its_update() {
        let budget = Capacity { memory_mb: 960, ..Capacity::default() }.budget_mb(1.0);
        let one = Load::default().with(app(256));
        assert_eq!((budget, one.memory_mb()), (546, 256 + 256 + 7));
        assert!(one.with(app(256)).memory_mb() > budget);
    }

    #[test]
    fn allocatable_memory_is_configurable_up_to_the_hosts_memory() {
        let allows =
            |mb| Capacity { memory_mb: 4096, allocatable_mb: Some(mb), ..Capacity::default() };
        let with = |mb| allows(mb).budget_mb(1.0);
        assert_eq!((with(1000), with(4000), with(9000)), (1000, 4000, 4096));
        assert_eq!(allows(1000).budget_mb(2.0), 2000);
    }

    #[test]
    fn fm_67_claimed_memory_is_capped_at_the_hosts_bound() {
        let honest = Capacity { memory_mb: 4096, max_memory_mb: Some(8192), ..Capacity::default() };
        assert_eq!(honest.budget_mb(1.0), 4096 - 384 - 128);
        for allocatable_mb in [None, Some(u64::MAX)] {
            let liar = Capacity { memory_mb: u64::MAX, allocatable_mb, ..honest };
            assert_eq!(liar.believed_mb(), 8192);
            assert!(liar.budget_mb(1.0) <= 8192);
        }
    }

    proptest! {
        /// The order in which apps arrive does not matter, and each takes at least what it is
        /// promised.
        #[test]
        fn a_load_is_independent_of_order_and_grows_with_each_app(
            mut apps in prop::collection::vec((1..4096u64, 0..9999u64), 0..20),
            one in (1..4096u64, 0..9999u64),
        ) {
            let demand = |(memory_mb, env_bytes)| Demand { memory_mb, env_bytes };
            let sum = |apps: &[(u64, u64)]| {
                apps.iter().fold(Load::default(), |load, app| load.with(demand(*app)))
            };
            let load = sum(&apps);
            apps.reverse();
            prop_assert_eq!(load, sum(&apps));
            let more = load.with(demand(one));
            prop_assert!(more.memory_mb() >= load.memory_mb() + one.0);
            prop_assert!(more.memory_mb() >= more.reserved_mb + more.largest_mb);
        }

        /// Without overcommitment, apps, helpers and an update leave the reserve alone.
        #[test]
        fn the_reserve_is_never_allocated(memory_mb in 0..1_000_000u64) {
            let budget = Capacity { memory_mb, ..Capacity::default() }.budget_mb(1.0);
            prop_assert!(budget == 0 || memory_mb - budget >= RESERVE_MB);
        }
    }
}
