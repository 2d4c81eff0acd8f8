//! The checks: each is a pure judgement of the facts, in a table.
#![expect(clippy::unnecessary_wraps, reason = "all checks have the one form that the table wants")]

mod agent;
mod caddy;
mod host;
mod podman;
#[cfg(test)]
mod tests;

use super::gathered::{Facts, Space};
use super::{Finding, Severity};
use crate::config::{self, Config};

/// The result of one check: all right, or what is wrong and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CheckOutcome {
    Ok(String),
    Warning { says: String, fix: String },
    Failure { says: String, fix: String },
}

fn ok(says: impl Into<String>) -> CheckOutcome {
    CheckOutcome::Ok(says.into())
}

fn warning(says: impl Into<String>, fix: impl Into<String>) -> CheckOutcome {
    CheckOutcome::Warning { says: says.into(), fix: fix.into() }
}

fn failure(says: impl Into<String>, fix: impl Into<String>) -> CheckOutcome {
    CheckOutcome::Failure { says: says.into(), fix: fix.into() }
}

/// What the checks judge: the facts, and the configuration.
#[derive(Clone, Copy)]
struct Case<'a> {
    facts: &'a Facts,
    config: &'a Config,
}

/// A check; `None` where there is nothing to say, because another check says it already.
type Check = fn(Case<'_>) -> Option<CheckOutcome>;

/// In the order in which a host is set up: earlier failures often cause later ones.
const CHECKS: [(&str, Check); 36] = [
    ("user", host::user),
    ("subordinate-ids", host::subordinate_ids),
    ("id-tools", host::id_tools),
    ("linger", host::linger),
    ("runtime-dir", host::runtime_dir),
    ("user-manager", host::user_manager),
    ("user-namespaces", host::user_namespaces),
    ("tun-device", host::tun_device),
    ("cgroups", host::cgroups),
    ("low-ports", host::low_ports),
    ("reload-resets", host::reload_resets),
    ("inotify", host::inotify),
    ("kernel-keys", host::kernel_keys),
    ("clock", host::clock),
    ("podman", podman::service),
    ("podman-rootless", podman::rootless),
    ("podman-unit", podman::unit),
    ("podman-network", podman::network),
    ("podman-storage", podman::storage),
    ("podman-locks", podman::locks),
    ("caddy", caddy::service),
    ("caddy-admin", caddy::admin_socket),
    ("caddy-version", caddy::version),
    ("caddy-main-file", caddy::main_file),
    ("caddy-routes", caddy::routes),
    ("caddy-certificate", caddy::certificate),
    ("edge", caddy::edge),
    ("resolver", agent::resolver),
    ("state-dir", agent::state_dir),
    ("identity", agent::identity),
    ("agent", agent::running),
    ("limits", agent::limits),
    ("listen", agent::listen),
    ("core-dumps", agent::core_dumps),
    ("document", agent::document),
    ("disk-reserve", agent::reserve),
];

pub(super) fn judge(facts: &Facts, config: &Config) -> Vec<Finding> {
    let case = Case { facts, config };
    let checked = CHECKS.iter().filter_map(|(name, check)| Some(finding(name, check(case)?)));
    let disks = facts.disks.iter().map(|(name, path, space)| {
        let path = path.display().to_string();
        let verdict = match space {
            Ok(space) => disk(&path, *space, &config.disk),
            Err(reason) => untold(reason),
        };
        finding(name, verdict)
    });
    checked.chain(disks).collect()
}

/// The finding when there is no configuration to check the host against.
pub(super) fn configuration(reason: &str) -> Finding {
    let fix = "write it (systemd/examples/agent.toml is an example), or name it with --config; \
               run this as the user that the agent runs as";
    finding("configuration", failure(reason, fix))
}

fn finding(check: &'static str, verdict: CheckOutcome) -> Finding {
    let (severity, says, fix) = match verdict {
        CheckOutcome::Ok(says) => (Severity::Ok, says, None),
        CheckOutcome::Warning { says, fix } => (Severity::Warning, says, Some(fix)),
        CheckOutcome::Failure { says, fix } => (Severity::Failure, says, Some(fix)),
    };
    Finding { check, severity, says, fix }
}

/// A fact that could not be learned is not good news.
fn untold(reason: &str) -> CheckOutcome {
    warning(format!("cannot be checked: {reason}"), "fix the cause, then run this again")
}

/// With fewer free inodes, apps cannot be deployed for much longer. For bytes the configuration has
/// the limits.
const HARDLY_ANY_PERCENT: u64 = 5;

/// By the same marks as the agent itself.
fn disk(path: &str, space: Space, rules: &config::Disk) -> CheckOutcome {
    const MIB: u64 = 1024 * 1024;
    let fix = "make room, or a larger disk: `podman system df` says what images take, \
               `du -x` the rest; `[disk]` in the configuration has the marks";
    let (used, free) = (space.bytes.percent(), space.bytes.free / MIB);
    let free_inodes = (space.free_inodes * 100).checked_div(space.total_inodes).unwrap_or(100);
    let used_inodes = 100_u64.saturating_sub(free_inodes);
    if space.bytes.free < rules.floor {
        let floor = rules.floor / MIB;
        let says = format!("{path}: {free} MiB free, and below {floor} MiB no image is pulled");
        failure(says, fix)
    } else if free_inodes < HARDLY_ANY_PERCENT {
        failure(format!("{path}: {free_inodes} % of the files free"), fix)
    } else if used > rules.high_percent {
        let high = rules.high_percent;
        warning(format!("{path}: {used} % of the space used, more than {high} %"), fix)
    } else if used_inodes > u64::from(rules.high_percent) {
        warning(format!("{path}: {free_inodes} % of the files free"), fix)
    } else {
        ok(format!("{path}: {used} % used, {free} MiB free"))
    }
}
