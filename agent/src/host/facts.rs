//! Host facts: asked of Podman, Caddy and the kernel, slowly, beside the reconciler's loop.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::backoff::Failures;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::adapters::caddy;
use crate::adapters::podman::{Info, Podman};
use crate::config::Config;
use crate::model::host_facts::{HostFacts, LimitRule};
use crate::model::retries;
use crate::model::retries::Jitter;
use crate::model::snapshot::HostSnapshot;
use crate::process::disk_space::DiskSpace;

/// Retry interval until Caddy reports its version.
const NO_CADDY: Duration = Duration::from_mins(1);
/// Controllers may be delegated, Podman and Caddy upgraded while the agent runs.
const CALM: Duration = Duration::from_mins(10);
/// Podman's service may use this many KiB of memory. Under load it needs a tenth of that; it has
/// been seen to leak (containers/podman issue 14879).
const PODMAN_KIB: u64 = 512 * 1024;

/// How long to wait for the first pass.
const FIRST_PASS: Duration = Duration::from_secs(5);

/// With fewer free Podman locks than this the administrator is warned.
const FEW_LOCKS: u32 = 100;

/// What is known before Podman has answered.
pub fn initial(config: &Config) -> HostFacts {
    HostFacts {
        memory_mb: memory_mb(),
        allocatable_mb: config.capacity.memory_mb,
        cpu_millicores: config.capacity.cpu_millicores.unwrap_or_else(cpu_millicores),
        ..HostFacts::default()
    }
}

/// Keeps `facts` up to date until it is dropped.
pub async fn keep(
    podman: &Podman,
    config: &Config,
    disk_space: &DiskSpace,
    facts: &watch::Sender<HostFacts>,
    mut snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    jitter: &Jitter,
) {
    // Podman's info call looks at each container, as its list does: with 1,000 of them each takes
    // most of a second (4.3.1), both at once take twice as long, and apps only wait for the list.
    let seen = snapshot.wait_for(Option::is_some);
    let _ = tokio::time::timeout(FIRST_PASS, seen).await;
    let failures = Failures::default();
    loop {
        let next = match podman.info().await {
            Ok(info) => {
                failures.end();
                disk_space.images_lie_in(info.image_paths.clone());
                let caddy_version = caddy::version(&config.caddy.admin).await;
                let loses_bodies = caddy_version.as_deref().is_some_and(caddy::loses_bodies);
                let fresh = HostFacts { caddy_version, loses_bodies, ..learn(&info, config) };
                let wait = if fresh.caddy_version.is_some() { CALM } else { NO_CADDY };
                facts.send_if_modified(|old| {
                    let fresh = HostFacts { disk: old.disk.clone(), ..fresh };
                    let news = *old != fresh;
                    *old = fresh;
                    news
                });
                podman.end_if_larger(PODMAN_KIB).await;
                Instant::now() + wait
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot read host facts from Podman; retrying");
                failures.next(retries::HOST, jitter())
            }
        };
        tokio::time::sleep_until(next).await;
    }
}

fn learn(info: &Info, config: &Config) -> HostFacts {
    let waived = config.podman.allow_unenforced_limits;
    let (limits, warning) = match info.limit_gap() {
        None => (LimitRule::Enforced, None),
        Some(_) if waived => {
            let says = "tier limits are NOT enforced on this host, as its configuration allows";
            (LimitRule::Waived, Some(says.to_owned()))
        }
        Some(gap) => {
            let (cause, fix) = (gap.cause(), gap.fix());
            let says = format!(
                "limits cannot be enforced here, so no app is started: {cause}; to mend it: {fix}"
            );
            (LimitRule::Missing(gap), Some(says))
        }
    };
    let mut warnings: Vec<String> = warning.into_iter().collect();
    if !info.rootless {
        warnings.push("Podman runs as root; run it as the agent's own user".to_owned());
    }
    if let Some(free) = info.free_locks.filter(|free| *free < FEW_LOCKS) {
        warnings.push(format!(
            "Podman has only {free} locks left, one is needed for each container, pod and volume: \
             remove some, or raise its `num_locks`"
        ));
    }
    HostFacts { podman_version: Some(info.version.clone()), limits, warnings, ..initial(config) }
}

fn memory_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total_kib(&text).unwrap_or_default() / 1024
}

/// `MemTotal` of `/proc/meminfo` (`proc_meminfo(5)`), in KiB.
fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn cpu_millicores() -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u64::try_from(cores).unwrap_or(1) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::model::host_facts::LimitGap;

    fn info(cgroup_version: &str, controllers: &[&str]) -> Info {
        Info {
            version: "4.3.1".to_owned(),
            cgroup_version: cgroup_version.to_owned(),
            cgroup_controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            cgroup_manager: Some("systemd".to_owned()),
            storage_driver: "overlay".to_owned(),
            graph_root: None,
            image_paths: Vec::new(),
            network_backend: Some("netavark".to_owned()),
            containers: 0,
            free_locks: None,
            rootless: true,
        }
    }

    #[test]
    fn unenforced_limits_are_refused_or_allowed_with_a_warning() {
        let environment = Environment {
            home: Some("/home/a".into()),
            runtime_dir: Some("/run/a".into()),
            ..Environment::default()
        };
        let strict = Config::parse("", &environment).unwrap();
        let lax = Config::parse("[podman]\nallow_unenforced_limits = true", &environment).unwrap();
        let whole = info("v2", &["cpu", "memory", "pids"]);
        assert_eq!(learn(&whole, &strict).limits, LimitRule::Enforced);
        assert!(learn(&whole, &strict).warnings.is_empty());
        let no_bus = Info { cgroup_manager: Some("cgroupfs".to_owned()), ..whole.clone() };
        for (partial, gap, fix) in [
            (info("v1", &["cpu", "memory", "pids"]), LimitGap::Version, "cgroup version 2"),
            (info("v2", &["memory", "pids"]), LimitGap::Controllers, "user@UID.service.d"),
            (no_bus, LimitGap::Manager, "dbus-user-session"),
        ] {
            let facts = learn(&partial, &strict);
            assert_eq!(facts.limits, LimitRule::Missing(gap));
            assert!(facts.warnings[0].contains(fix), "{:?}", facts.warnings);
            assert_eq!(learn(&partial, &lax).limits, LimitRule::Waived);
            assert_eq!(learn(&partial, &lax).warnings.len(), 1);
        }
    }

    #[test]
    fn fm_25_warns_before_locks_run_out() {
        let config = Config::parse(
            "",
            &Environment {
                home: Some("/home/a".into()),
                runtime_dir: Some("/run/a".into()),
                ..Environment::default()
            },
        )
        .unwrap();
        let with = |free| Info { free_locks: free, ..info("v2", &["cpu", "memory", "pids"]) };
        assert!(learn(&with(Some(2_000)), &config).warnings.is_empty());
        assert!(learn(&with(Some(99)), &config).warnings[0].contains("only 99 locks left"));
    }

    #[test]
    fn parses_total_memory_from_meminfo() {
        assert_eq!(total_kib("MemTotal:        8048000 kB\nMemFree: 1 kB\n"), Some(8_048_000));
        assert_eq!(total_kib("nonsense"), None);
    }
}
