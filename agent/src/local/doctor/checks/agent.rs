//! The agent's own processes and files.

use super::{Case, CheckOutcome, failure, ok, untold, warning};
use crate::model::host_facts::LIMITS_NOT_ENFORCED;

const START: &str = "`systemctl --user start buddo-agent`; its log says why it ended: \
                     `journalctl --user --unit buddo-agent`";

pub(super) fn resolver(case: Case<'_>) -> Option<CheckOutcome> {
    let agent = &case.facts.agent;
    let problems: Vec<&str> = [&agent.dns, &agent.ask]
        .iter()
        .filter_map(|seen| seen.as_ref().err())
        .map(|r| &**r)
        .collect();
    Some(if problems.is_empty() {
        ok("answers Caddy")
    } else {
        failure(
            format!("Caddy cannot query the resolver: {}", problems.join("; ")),
            "`systemctl --user start buddo-resolver.socket buddo-resolver`",
        )
    })
}

/// It holds the host's keys.
pub(super) fn state_dir(case: Case<'_>) -> Option<CheckOutcome> {
    let (agent, uid) = (&case.facts.agent, case.facts.host.uid);
    let path = case.config.state_dir.display();
    let info = match &agent.state_dir {
        Ok(info) => info,
        Err(reason) => {
            return Some(failure(
                reason,
                "`buddo-agent join` makes it; or name another as `state_dir`",
            ));
        }
    };
    if info.uid != uid {
        return Some(failure(
            format!("{path} belongs to user {}", info.uid),
            format!("`chown -R {uid} {path}`, or run this as the user that the agent runs as"),
        ));
    }
    let open: Vec<String> = agent
        .keys
        .iter()
        .filter(|(_, key)| key.mode & 0o077 != 0 || key.uid != uid)
        .map(|(path, key)| format!("{} (mode {:o})", path.display(), key.mode))
        .collect();
    Some(if !open.is_empty() {
        failure(
            format!("others may read keys: {}", open.join(", ")),
            "`chmod 600` them; if others could log in here, join the host again with --force",
        )
    } else if info.mode & 0o022 != 0 {
        failure(
            format!("others may write to {path} (mode {:o})", info.mode),
            format!("`chmod 700 {path}`"),
        )
    } else {
        ok(format!("{path}, mode {:o}", info.mode))
    })
}

pub(super) fn identity(case: Case<'_>) -> Option<CheckOutcome> {
    let now = case.facts.now;
    let again = "let it join again: `buddo-coordinator host add NAME` prints a token for \
                 `buddo-agent join --force`";
    Some(match &case.facts.agent.certificate {
        Err(reason) => failure(reason, again),
        Ok(None) => failure(
            "this host has not joined",
            "`buddo-coordinator host add NAME` on the coordinator prints a token for `buddo-agent \
             join`",
        ),
        Ok(Some(dates)) if dates.until <= now => failure(
            format!("the certificate for the coordinator ended at {}; apps run on", dates.until),
            again,
        ),
        Ok(Some(dates)) if now < dates.from => failure(
            format!("the certificate is valid only from {} on, it is {now} here", dates.from),
            "set the clock right",
        ),
        Ok(Some(dates)) => {
            // Renewed at half of its life; at the last fifth something prevents that.
            let (life, left) =
                (dates.until.duration_since(dates.from), dates.until.duration_since(now));
            if left < life / 5 {
                warning(
                    format!("the certificate for the coordinator ends at {}", dates.until),
                    "see that the coordinator reaches this host: `buddo-coordinator host list`",
                )
            } else {
                ok(format!("joined, certificate until {}", dates.until))
            }
        }
    })
}

pub(super) fn running(case: Case<'_>) -> Option<CheckOutcome> {
    let this = env!("CARGO_PKG_VERSION");
    Some(match &case.facts.agent.running {
        Err(reason) => failure(reason, START),
        Ok(agent) if agent.version != this => warning(
            format!("version {} runs, {this} is installed", agent.version),
            "`systemctl --user restart buddo-agent buddo-resolver`; visitors notice nothing",
        ),
        Ok(_) => ok(format!("version {this} runs")),
    })
}

/// What the agent read of the containers' own cgroups. Where Podman cannot enforce limits at all,
/// `cgroups` says so.
pub(super) fn limits(case: Case<'_>) -> Option<CheckOutcome> {
    let agent = case.facts.agent.running.as_ref().ok()?;
    if case.config.podman.allow_unenforced_limits {
        return Some(ok("not looked at, as configured"));
    }
    let lacks = agent.lacks.as_ref().filter(|lacks| lacks.code == LIMITS_NOT_ENFORCED);
    let unable = case.facts.podman.info.as_ref().is_ok_and(|info| info.limit_gap().is_some());
    Some(match lacks {
        Some(_) if unable => return None,
        Some(lacks) => failure(
            &lacks.cause,
            "restart what Podman reads its user bus and controllers from (`systemctl --user restart \
             buddo-podman`), then remove what runs without limits (`podman rm --force NAME`): the \
             agent makes it again and looks once more",
        ),
        None => ok("containers are held to them"),
    })
}

/// The coordinator connects to the agent, so the agent cannot test that connection itself.
pub(super) fn listen(case: Case<'_>) -> Option<CheckOutcome> {
    let address = case.config.listen;
    let runs = case.facts.agent.running.as_ref();
    Some(match (&case.facts.agent.listens, runs) {
        (Ok(()), Err(_)) => failure(
            format!("another program listens on {address}"),
            "stop it, or set another port as `listen` in the configuration and join again",
        ),
        (Err(_), Err(_)) => return None,
        (Err(_), Ok(agent)) if !agent.joined => return None,
        (Err(reason), Ok(_)) => failure(format!("the coordinator cannot connect: {reason}"), START),
        (Ok(()), Ok(_)) if address.ip().is_loopback() => warning(
            format!("{address} can be reached only from this host"),
            "if the coordinator is elsewhere, set `listen` to 0.0.0.0:7443 and open that port to it",
        ),
        (Ok(()), Ok(_)) => ok(format!("{address}, which a firewall must open to the coordinator")),
    })
}

/// Its memory holds keys and opened secrets.
pub(super) fn core_dumps(case: Case<'_>) -> Option<CheckOutcome> {
    let agent = case.facts.agent.running.as_ref().ok()?;
    Some(match &agent.core_limit {
        Ok(Some(0)) => ok("disabled for the agent"),
        Ok(_) => warning(
            "the agent's memory, keys and all, may be written to a disk",
            "restart it with this version, under buddo-agent.service (LimitCORE=0)",
        ),
        Err(reason) => untold(reason),
    })
}

pub(super) fn document(case: Case<'_>) -> Option<CheckOutcome> {
    let agent = case.facts.agent.running.as_ref().ok().filter(|agent| agent.joined)?;
    let reach =
        "`buddo-coordinator host list` says whether it reaches this host and what was refused";
    Some(match (&agent.document, agent.warnings.as_slice()) {
        (None, _) => warning("the coordinator has sent none yet", reach),
        (Some((generation, true)), _) => {
            warning(format!("{generation} has expired; apps keep running"), reach)
        }
        (Some(_), [_, ..]) => warning(
            agent.warnings.join("; "),
            "reported by the agent; `buddo-agent status` shows whether it still applies",
        ),
        (Some((generation, false)), []) => ok(format!("{generation} is in force")),
    })
}

/// Without it a full disk keeps the agent from writing essential state.
pub(super) fn reserve(case: Case<'_>) -> Option<CheckOutcome> {
    let size = case.config.disk.reserve >> 20;
    // Another check reports an agent that does not run; it may not have made the reserve yet.
    if size == 0 || case.facts.agent.running.is_err() {
        return None;
    }
    Some(match &case.facts.agent.reserve {
        Ok(true) => ok(format!("{size} MiB are reserved for essential writes")),
        Ok(false) => warning(
            format!("the {size} MiB reserve for essential writes is used up or could not be made"),
            "make room, or a larger disk: the agent makes the reserve again by itself; \
             `reserve_mb` in `[disk]` is its size",
        ),
        Err(reason) => untold(reason),
    })
}
