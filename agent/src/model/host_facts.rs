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
    Missing(LimitGap),
}

/// Code of a failure for limits that the kernel does not keep: the host's trouble, never an app's.
pub const LIMITS_NOT_ENFORCED: &str = "limits_not_enforced";

/// The controllers that limits take and that are not among those `delegated`.
pub fn missing_controllers(delegated: &[String]) -> impl Iterator<Item = &'static str> {
    let has = |name: &str| delegated.iter().any(|controller| controller == name);
    ["memory", "cpu", "pids"].into_iter().filter(move |name| !has(name))
}

/// What keeps Podman from enforcing limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitGap {
    /// The cgroups are of version 1, which cannot be delegated to a user.
    Version,
    /// Not all controllers are delegated to Podman's user.
    Controllers,
    /// Podman does not have systemd make cgroups, most often because it found no user bus. It then
    /// accepts limits, shows them in each inspection, and leaves all containers in the cgroup of its
    /// own unit (4.3.1).
    Manager,
}

impl LimitGap {
    pub fn cause(self) -> &'static str {
        match self {
            Self::Version => "Podman uses cgroup version 1, which cannot be delegated",
            Self::Controllers => "Podman's user lacks cgroup controllers",
            Self::Manager => {
                "Podman does not make cgroups through systemd, as without a user bus, and puts all \
                 containers into one"
            }
        }
    }

    /// What its administrator does about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Version => {
                "boot with cgroup version 2 alone (`systemd.unified_cgroup_hierarchy=1`)"
            }
            Self::Controllers => {
                "install system/user@UID.service.d/buddo.conf, which delegates memory, cpu and \
                 pids, and restart the user's manager"
            }
            Self::Manager => {
                "install dbus-user-session and restart the user's manager (`systemctl restart \
                 user@UID`; its apps restart with it); if Podman then refuses every call, run \
                 `podman system migrate` as that user, but only while no container runs"
            }
        }
    }
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
