//! What the host is, beside its containers.

/// Whether this host enforces tiers' limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitRule {
    /// Not known yet: Podman has not answered. Nothing new is started.
    #[default]
    Unknown,
    Enforced,
    /// It does not, and its administrator accepts that.
    Waived,
    /// It does not: nothing that needs limits is started.
    Missing,
}

/// What is known of the host beside its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Version of Podman, where it answers.
    pub podman_version: Option<String>,
    /// Version of Caddy, where it answers.
    pub caddy_version: Option<String>,
    /// Caddy cannot hold requests with a body.
    pub loses_bodies: bool,
    /// Whether limits hold here.
    pub limits: LimitRule,
    /// MiB of memory that the machine has.
    pub memory_mb: u64,
    /// MiB of it that its administrator allows for apps, where that is said.
    pub allocatable_mb: Option<u64>,
    /// Thousandths of cores that they may use.
    pub cpu_millicores: u64,
    /// What an administrator should know.
    pub warnings: Vec<String>,
    /// What an administrator should know of the host's disks.
    pub disk: Vec<String>,
}
