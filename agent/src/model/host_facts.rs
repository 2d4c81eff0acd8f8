//! What the host is, apart from its containers.

/// Whether this host enforces tiers' limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitRule {
    /// Not known yet: Podman has not answered. Nothing new is started.
    #[default]
    Unknown,
    Enforced,
    /// They are not enforced, and the administrator accepts that.
    Waived,
    /// They are not enforced: nothing that needs limits is started.
    Missing,
}

/// What is known of the host apart from its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Version of Podman, if it answers.
    pub podman_version: Option<String>,
    /// Version of Caddy, if it answers.
    pub caddy_version: Option<String>,
    /// Caddy cannot hold requests with a body.
    pub loses_bodies: bool,
    /// Whether limits are enforced here.
    pub limits: LimitRule,
    /// Memory of the machine, in MiB.
    pub memory_mb: u64,
    /// Memory the administrator allows for apps, in MiB, if configured.
    pub allocatable_mb: Option<u64>,
    /// CPU that apps may use, in thousandths of a core.
    pub cpu_millicores: u64,
    /// Warnings for the administrator.
    pub warnings: Vec<String>,
    /// Warnings for the administrator about the host's disks.
    pub disk: Vec<String>,
}
