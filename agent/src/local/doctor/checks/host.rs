//! The user, the kernel, the clock.

use super::{Case, CheckOutcome, failure, ok, untold, warning};
use crate::model::host_facts::{LimitGap, missing_controllers};

/// What a container's own users need: one range as `useradd` allots it.
const LEAST_IDS: u64 = 65_536;
/// The package's settings, for fixes to point to.
const SYSCTL: &str =
    "run `sysctl --system`, with the package's 60-buddo.conf in /usr/lib/sysctl.d or /etc/sysctl.d";

pub(super) fn user(case: Case<'_>) -> Option<CheckOutcome> {
    let host = &case.facts.host;
    // Root does not get here.
    Some(match (&host.user, host.uid) {
        (Some(name), uid) => ok(format!("{name} ({uid})")),
        (None, uid) => failure(
            format!("user {uid} is not in the password database, where Podman looks it up"),
            "add it: sysusers.d/buddo.conf makes one",
        ),
    })
}

pub(super) fn subordinate_ids(case: Case<'_>) -> Option<CheckOutcome> {
    let host = &case.facts.host;
    let few: Vec<String> = ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .zip(&host.subordinate)
        .filter_map(|(table, seen)| match seen {
            Ok(count) if *count >= LEAST_IDS => None,
            Ok(count) => Some(format!("{count} in {table}")),
            Err(reason) => Some(reason.clone()),
        })
        .collect();
    if few.is_empty() {
        return Some(ok(format!("at least {LEAST_IDS} of each kind")));
    }
    let user = host.user.as_deref().unwrap_or("USER");
    Some(failure(
        format!("images need {LEAST_IDS}, there are {}", few.join(", ")),
        format!(
            "`usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user}` (or another \
             range that nobody has), then `podman system migrate` as {user}"
        ),
    ))
}

pub(super) fn id_tools(case: Case<'_>) -> Option<CheckOutcome> {
    let missing = &case.facts.host.missing_id_tools;
    Some(if missing.is_empty() {
        ok("newuidmap and newgidmap are installed")
    } else {
        failure(format!("there is no {}", missing.join(" and no ")), "install the package uidmap")
    })
}

pub(super) fn linger(case: Case<'_>) -> Option<CheckOutcome> {
    let host = &case.facts.host;
    let user = host.user.as_deref()?;
    if !host.manager {
        // `user_manager` says it.
        return None;
    }
    Some(if host.lingers {
        ok("units start at boot")
    } else {
        failure(
            "the user's units end with its last login and do not start at boot",
            format!("`loginctl enable-linger {user}`"),
        )
    })
}

pub(super) fn runtime_dir(case: Case<'_>) -> Option<CheckOutcome> {
    let host = &case.facts.host;
    Some(match &host.runtime_dir {
        Err(reason) => failure(
            reason,
            format!("set XDG_RUNTIME_DIR=/run/user/{}, which lingering makes", host.uid),
        ),
        Ok(info) if info.uid != host.uid => failure(
            format!("it belongs to user {}", info.uid),
            format!("set XDG_RUNTIME_DIR=/run/user/{}: sudo keeps the caller's", host.uid),
        ),
        Ok(info) if info.mode & 0o077 != 0 => failure(
            format!("others may enter it (mode {:o})", info.mode),
            "`chmod 700` it: it holds the sockets of Podman, Caddy and the agent",
        ),
        Ok(_) => ok("private"),
    })
}

pub(super) fn user_manager(case: Case<'_>) -> Option<CheckOutcome> {
    let host = &case.facts.host;
    Some(if host.manager {
        ok("the user's systemd answers")
    } else {
        warning(
            "this user's systemd does not answer, so nothing restarts failed services",
            format!(
                "`loginctl enable-linger {}`, unless other means keep the services",
                host.user.as_deref().unwrap_or("USER")
            ),
        )
    })
}

pub(super) fn user_namespaces(case: Case<'_>) -> Option<CheckOutcome> {
    let sysctl = &case.facts.host.sysctl;
    Some(if sysctl.unprivileged_userns_clone == Some(0) {
        failure(
            "the kernel allows user namespaces only for root",
            "`sysctl kernel.unprivileged_userns_clone=1`, and into /etc/sysctl.d",
        )
    } else if sysctl.max_user_namespaces == Some(0) {
        failure(
            "the kernel does not allow user namespaces",
            "`sysctl user.max_user_namespaces=15000`, and into /etc/sysctl.d",
        )
    } else {
        ok("allowed")
    })
}

pub(super) fn tun_device(case: Case<'_>) -> Option<CheckOutcome> {
    Some(match &case.facts.host.tun {
        Ok(()) => ok("opens"),
        Err(error) => failure(
            format!("/dev/net/tun cannot be opened, so no container has a network: {error}"),
            "`modprobe tun`, and `chmod 666 /dev/net/tun`, which is what udev gives it; in a \
             virtual machine or container its host may have to pass it through",
        ),
    })
}

/// As Podman sees it; if it does not answer, the cgroup of this process.
pub(super) fn cgroups(case: Case<'_>) -> Option<CheckOutcome> {
    let without = |delegated: &[String]| {
        let missing: Vec<_> = missing_controllers(delegated).collect();
        (format!("without {}", missing.join(", ")), LimitGap::Controllers)
    };
    let (problem, gap) = match (&case.facts.podman.info, &case.facts.host.controllers) {
        (Ok(info), _) => match info.limit_gap() {
            None => return Some(ok("version 2, with memory, cpu and pids, made by systemd")),
            Some(LimitGap::Controllers) => without(&info.cgroup_controllers),
            Some(gap) => (gap.cause().to_owned(), gap),
        },
        (Err(_), Ok(there)) => {
            if missing_controllers(there).next().is_none() {
                return Some(ok("version 2, with memory, cpu and pids"));
            }
            without(there)
        }
        (Err(_), Err(reason)) => (reason.clone(), LimitGap::Version),
    };
    let uid = case.facts.host.uid;
    let fix = gap
        .fix()
        .replace("`systemctl restart user@UID`", &format!("`systemctl restart user@{uid}`"));
    Some(if case.config.podman.allow_unenforced_limits {
        warning(format!("{problem}: limits of apps are not enforced, as configured"), fix)
    } else {
        failure(format!("{problem}: limits of apps cannot be enforced, so none is started"), fix)
    })
}

pub(super) fn low_ports(case: Case<'_>) -> Option<CheckOutcome> {
    let caddy = &case.config.caddy;
    let lowest = u64::from(caddy.http_port.min(caddy.https_port));
    let first = case.facts.host.sysctl.unprivileged_port_start.unwrap_or(1024);
    Some(if lowest >= first {
        ok(format!("ports {} and {} need no privilege", caddy.http_port, caddy.https_port))
    } else if case.facts.caddy.edge.is_ok() && case.facts.caddy.admin.is_ok() {
        // Caddy's program may have the capability, or another program may pass connections on.
        ok(format!("port {} needs privilege, and Caddy is reached", caddy.https_port))
    } else {
        failure(format!("only root may use ports below {first}, and Caddy needs {lowest}"), SYSCTL)
    })
}

pub(super) fn reload_resets(case: Case<'_>) -> Option<CheckOutcome> {
    Some(match case.facts.host.sysctl.tcp_migrate_req {
        Some(1..) => ok("waiting connections survive Caddy's reloads"),
        Some(0) => warning("each reload of Caddy resets waiting connections", SYSCTL),
        None => warning(
            "this kernel resets waiting connections whenever Caddy reloads",
            "upgrade to Linux 5.14 or newer",
        ),
    })
}

pub(super) fn inotify(case: Case<'_>) -> Option<CheckOutcome> {
    /// The kernel's default is 128, meant for a desktop user.
    const LEAST: u64 = 1024;
    Some(match case.facts.host.sysctl.inotify_instances {
        Some(count) if count < LEAST => warning(
            format!("all apps together may watch {count} times for files; more fail to start"),
            SYSCTL,
        ),
        Some(count) => ok(format!("{count} watchers of files for all apps together")),
        None => untold("there is no fs.inotify.max_user_instances"),
    })
}

pub(super) fn kernel_keys(case: Case<'_>) -> Option<CheckOutcome> {
    /// The kernel's default is 200, some of which a user's session takes.
    const LEAST: u64 = 1024;
    let keys = case.facts.host.sysctl.max_keys;
    if case.facts.podman.keyring == Ok(false) {
        return Some(ok("containers do not use kernel keys"));
    }
    if case.facts.podman.keyring == Ok(true) {
        let keys = keys.map_or_else(|| "a limited number".to_owned(), |keys| keys.to_string());
        return Some(warning(
            format!(
                "each container uses a kernel key; the kernel allows {keys} per user, and one app \
                 can use them all up"
            ),
            "`systemd-tmpfiles --create`, which links ~/.config/containers/containers.conf.d/\
             buddo.conf to the package's settings (`keyring = false`), then `systemctl --user \
             restart buddo-podman`; containers do without from their next start on",
        ));
    }
    Some(match keys {
        Some(count) if count < LEAST => warning(
            format!("the kernel allows {count} keys per user, and each container may use one"),
            SYSCTL,
        ),
        Some(count) => ok(format!("room for {count} containers' keys")),
        // A kernel without keyrings has no keys.
        None => return None,
    })
}

pub(super) fn clock(case: Case<'_>) -> Option<CheckOutcome> {
    Some(match &case.facts.host.clock_kept {
        Ok(true) => ok("synchronized with a time server"),
        Ok(false) => warning(
            "not synchronized: documents and certificates expire too early or too late",
            "install and start systemd-timesyncd or chrony",
        ),
        Err(reason) => untold(reason),
    })
}
