//! Podman. Checks that need its answer are silent if it does not answer.

use super::{Case, CheckOutcome, failure, ok, untold, warning};

/// The oldest Podman that the agent is tested with.
const TESTED: [u64; 3] = [4, 3, 1];

/// The number of locks a Podman with default settings has for containers, pods and volumes together
/// (`num_locks` of containers.conf(5)).
const LOCKS: u64 = 2_048;

/// Fewer free than this: look at it.
const FEW_LOCKS: u64 = 200;

pub(super) fn service(case: Case<'_>) -> Option<CheckOutcome> {
    Some(match &case.facts.podman.info {
        Ok(info) if older(&info.version, TESTED) => warning(
            format!("version {} is older than any tested version", info.version),
            "install Podman 4.3.1 or newer",
        ),
        Ok(info) => ok(format!("version {}", info.version)),
        Err(reason) => failure(
            reason,
            "`systemctl --user start buddo-podman`, and let `podman.socket` in the configuration \
             name its socket; `podman info` says what is wrong with Podman itself",
        ),
    })
}

pub(super) fn rootless(case: Case<'_>) -> Option<CheckOutcome> {
    let info = case.facts.podman.info.as_ref().ok()?;
    Some(if info.rootless {
        ok("yes")
    } else {
        failure("Podman runs as root, so a broken-out app is root", "run it as the agent's user")
    })
}

pub(super) fn unit(case: Case<'_>) -> Option<CheckOutcome> {
    let fix = "use buddo-podman.service, and disable the user's podman.socket";
    let command = match &case.facts.podman.command {
        Ok(command) => command,
        // Without a socket, `podman` has reported it.
        Err(_) if case.facts.podman.info.is_err() => return None,
        Err(reason) => return Some(untold(reason)),
    };
    let forever = |(at, word): (usize, &String)| match word.as_str() {
        "--time=0" | "-t=0" | "-t0" => true,
        "--time" | "-t" => command.get(at + 1).is_some_and(|value| value == "0"),
        _ => false,
    };
    Some(if command.iter().enumerate().any(forever) {
        ok("keeps running while idle")
    } else if command.iter().any(|word| word.contains("systemd")) {
        warning("systemd starts the service on demand, and it ends by itself after 5 s", fix)
    } else {
        warning("the service ends by itself after 5 s without a request", fix)
    })
}

pub(super) fn network(case: Case<'_>) -> Option<CheckOutcome> {
    let info = case.facts.podman.info.as_ref().ok()?;
    let firewalls = &case.facts.podman.firewalls;
    let backend = info.network_backend.as_deref().unwrap_or("unknown");
    let usable = match backend {
        // From Podman 5 on netavark may use nft in its place.
        "netavark" => {
            firewalls.contains(&"iptables")
                || (firewalls.contains(&"nft") && !older(&info.version, [5, 0, 0]))
        }
        _ => firewalls.contains(&"iptables"),
    };
    Some(if !usable {
        failure(
            format!("{backend} needs iptables, which is missing"),
            "install the package iptables",
        )
    } else if backend == "netavark" {
        ok(backend)
    } else {
        warning(
            format!("the agent is not tested with {backend}"),
            "install netavark and aardvark-dns, and set `network_backend = \"netavark\"` in \
             containers.conf",
        )
    })
}

pub(super) fn storage(case: Case<'_>) -> Option<CheckOutcome> {
    let info = case.facts.podman.info.as_ref().ok()?;
    Some(match info.storage_driver.as_str() {
        driver @ ("overlay" | "btrfs" | "zfs") => ok(driver),
        driver => warning(
            format!("{driver} copies whole images for each container"),
            "set `driver = \"overlay\"` in storage.conf; images must then be pulled again",
        ),
    })
}

pub(super) fn locks(case: Case<'_>) -> Option<CheckOutcome> {
    let info = case.facts.podman.info.as_ref().ok()?;
    // Before 4.6 only containers can be counted; pods and volumes are not ours.
    let free = info.free_locks.map_or_else(|| LOCKS.saturating_sub(info.containers), u64::from);
    let says = format!("{free} free, each container needs one");
    let fix = "remove containers, pods and volumes that nobody needs, or raise `num_locks` in \
               containers.conf and run `podman system renumber`";
    Some(match free {
        0 => failure(says, fix),
        1..FEW_LOCKS => warning(says, fix),
        _ => ok(says),
    })
}

/// Whether `version` comes before `least`. One that cannot be read counts as new.
pub(super) fn older(version: &str, least: [u64; 3]) -> bool {
    let number = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u64>().ok()
    };
    let mut numbers = [0; 3];
    for (component, part) in numbers.iter_mut().zip(version.split('.')) {
        let Some(number) = number(part) else { return false };
        *component = number;
    }
    numbers < least
}
