//! Caddy and the edge.

use buddo_shared::model::id::DeploymentId;
use jiff::SignedDuration;

use super::podman::older;
use super::{Case, CheckOutcome, failure, ok, untold, warning};

/// The first Caddy that holds POSTs with bodies while an app is recreated (caddy#7546).
const HOLDS_POSTS: [u64; 3] = [2, 11, 2];

/// Warn this long before a certificate that is renewed by hand ends.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) fn service(case: Case<'_>) -> Option<CheckOutcome> {
    Some(match &case.facts.caddy.admin {
        Ok(()) => ok("answers on its admin socket"),
        Err(reason) => failure(
            reason,
            "`systemctl --user start buddo-caddy`; its log says what is wrong with it",
        ),
    })
}

/// A process that can write to it can replace the edge's whole configuration.
pub(super) fn admin_socket(case: Case<'_>) -> Option<CheckOutcome> {
    let info = case.facts.caddy.admin_socket.as_ref().ok()?;
    Some(if info.mode & 0o022 == 0 {
        ok(format!("mode {:o}", info.mode))
    } else {
        failure(
            format!("others may reconfigure Caddy (mode {:o})", info.mode),
            "start Caddy with UMask=0077, as buddo-caddy.service does",
        )
    })
}

pub(super) fn version(case: Case<'_>) -> Option<CheckOutcome> {
    case.facts.caddy.admin.as_ref().ok()?;
    let says = "POSTs with a body fail with 502 while an app is recreated or woken";
    Some(match &case.facts.caddy.version {
        Some(version) if older(version, HOLDS_POSTS) => warning(
            format!("version {version}: {says}"),
            "install Caddy 2.11.2 or newer from caddyserver.com",
        ),
        Some(version) => ok(format!("version {version}")),
        None => untold("its binary does not report a version"),
    })
}

/// Without the import Caddy knows no app.
pub(super) fn main_file(case: Case<'_>) -> Option<CheckOutcome> {
    let caddy = &case.config.caddy;
    let fix = "`buddo-agent caddyfile --write`, then `systemctl --user restart buddo-caddy`";
    let wanted = caddy.routes_dir.join("*.caddy").to_string_lossy().into_owned();
    let imports = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("import")
            && line.trim_start_matches(|c: char| c != '/').trim_end_matches(['`', '"', ' '])
                == wanted
    };
    Some(match &case.facts.caddy.main_file {
        Err(reason) => failure(reason, fix),
        Ok(text) if text.lines().any(imports) => ok("imports the routes"),
        Ok(_) => failure(format!("{} does not import {wanted}", caddy.caddyfile.display()), fix),
    })
}

/// A file that is not the agent's may keep Caddy from starting.
pub(super) fn routes(case: Case<'_>) -> Option<CheckOutcome> {
    let folder = case.config.caddy.routes_dir.display();
    let files = match &case.facts.caddy.route_files {
        Ok(files) => files,
        Err(reason) => {
            return Some(warning(
                reason,
                "`buddo-agent caddyfile --write` makes the folder; the agent fills it",
            ));
        }
    };
    let foreign: Vec<_> = files.iter().filter(|file| !is_ours(case, file)).cloned().collect();
    Some(if foreign.is_empty() {
        ok(format!("{} files, all the agent's", files.len()))
    } else {
        warning(
            format!("{} in {folder} is not the agent's; Caddy loads it", foreign.join(", ")),
            "move it away: a mistake in it keeps Caddy from starting",
        )
    })
}

/// By the running agent's list; without one, by the form of the names it gives.
fn is_ours(case: Case<'_>, file: &str) -> bool {
    if let Ok(agent) = &case.facts.agent.running {
        return agent.routes.iter().any(|route| route == file);
    }
    let Some(name) = file.strip_suffix(".caddy") else { return false };
    let id = name.strip_prefix("app-").map(str::parse::<DeploymentId>);
    name == "zone" || matches!(id, Some(Ok(_)))
}

pub(super) fn certificate(case: Case<'_>) -> Option<CheckOutcome> {
    let seen = case.facts.caddy.certificate.as_ref()?;
    let fix = "renew the files that `caddy.certificate` names, then `systemctl --user restart \
               buddo-agent`";
    Some(match seen {
        Err(reason) => failure(reason, fix),
        Ok(dates) if dates.until <= case.facts.now => {
            failure(format!("the zone's ended at {}", dates.until), fix)
        }
        Ok(dates) if dates.until.duration_since(case.facts.now) < SOON => {
            warning(format!("the zone's ends at {}", dates.until), fix)
        }
        Ok(dates) => ok(format!("the zone's is valid until {}", dates.until)),
    })
}

pub(super) fn edge(case: Case<'_>) -> Option<CheckOutcome> {
    let port = case.config.caddy.https_port;
    let routes = case.facts.caddy.route_files.as_ref().is_ok_and(|files| !files.is_empty());
    Some(match (&case.facts.caddy.edge, &case.facts.caddy.admin) {
        (Ok(()), Ok(())) => ok(format!("port {port} accepts connections")),
        (Ok(()), Err(_)) => failure(
            format!("a program other than our Caddy listens on port {port}"),
            format!("`ss --listening --processes 'sport = {port}'` names it; stop and disable it"),
        ),
        (Err(_), Ok(())) if !routes => {
            ok(format!("Caddy listens on port {port} from the first document on"))
        }
        (Err(reason), Ok(())) => failure(
            format!("visitors cannot connect: {reason}"),
            "see Caddy's log: `journalctl --user --unit buddo-caddy`",
        ),
        (Err(_), Err(_)) => return None,
    })
}
