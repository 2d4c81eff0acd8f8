//! Failures in words for an app's operator: what is wrong, and what to do. One line each.

use std::path::PathBuf;
use std::time::Duration;

use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::Revision;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::port::Port;
use buddo_shared::model::workload::ServiceName;

use crate::model::cgroup::{Breach, LimitCheck};
use crate::model::container::{ExitInfo, KILLED};
use crate::model::host_facts::{LIMITS_NOT_ENFORCED, LimitGap};
use crate::plan::rollback_watch::RollbackVerdict;
use crate::plan::rollback_watch::failed_requests::Rates;
use crate::ports::{ContainersError, Hindrance};

const MIB: u64 = 1024 * 1024;

/// The longest foreign text (logs, Podman's messages) quoted in a failure, in characters.
const QUOTE: usize = 200;

/// What to do about an app that does not run as it should. Its output is on the host, where its
/// operator cannot read it, so nobody is sent there.
const MEND: &str = "run the image with the same environment on a machine of your own to see why, \
                    correct it and deploy again";

fn failure(code: &str, cause: String, fix: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), cause, fix: fix.into() }
}

/// The last non-blank line of `text`, cut and without control characters.
fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(QUOTE).collect())
}

/// The container ended `times` times before it answered.
pub fn exited_at_start(exit: &ExitInfo, times: u32, limits: Limits) -> Failure {
    let said = last_line(&exit.log_tail).map(|line| format!(": {line}")).unwrap_or_default();
    if exit.oom_killed {
        let cause = format!(
            "the container ran out of its {} MB of memory {times} times before it answered{said}",
            limits.memory_mb
        );
        return failure(
            "out_of_memory",
            cause,
            "let the app use less memory at its start, or deploy it to a larger tier",
        );
    }
    if exit.exit_code == KILLED {
        let cause = format!(
            "the container was killed ({KILLED}) {times} times before it answered, most often for \
             more memory than its {} MB{said}",
            limits.memory_mb
        );
        return failure(
            "killed_at_start",
            cause,
            "let the app use less memory at its start, or deploy it to a larger tier",
        );
    }
    let code = exit.exit_code;
    let cause =
        format!("the container exited with code {code} {times} times before it answered{said}");
    let fix = match code {
        0 => "let the image's command keep running in the foreground",
        126 | 127 => "check the image's command: it cannot be run or is not in the image",
        _ => MEND,
    };
    failure("exited_at_start", cause, fix)
}

/// It ran for all the time allowed and never answered.
pub fn never_healthy(port: Port, seconds: u64, reason: Option<&str>) -> Failure {
    let reason = reason.and_then(last_line).unwrap_or_else(|| "no probe was answered".to_owned());
    failure(
        "never_healthy",
        format!("the app did not answer on port {port} within {seconds} s: {reason}"),
        format!("listen on 0.0.0.0:{port}, or deploy with the --port that the app listens on"),
    )
}

/// It answered, and not reliably enough to be sent visitors.
pub fn not_healthy_for_long(port: Port, reason: Option<&str>) -> Failure {
    let reason = reason.and_then(last_line).unwrap_or_else(|| "its probes failed".to_owned());
    failure(
        "never_healthy",
        format!(
            "the app answered on port {port} and stopped before it got its first request: {reason}"
        ),
        "look in the app's log for why it stops answering, correct it and deploy again".to_owned(),
    )
}

/// The host cannot enforce the tier's limits.
pub fn limits_not_enforced(gap: LimitGap) -> Failure {
    failure(
        LIMITS_NOT_ENFORCED,
        format!(
            "the app's host does not enforce limits of memory, CPU and processes: {}",
            gap.cause()
        ),
        format!(
            "wait, it goes on by itself once the host's administrator has this done: {}",
            gap.fix()
        ),
    )
}

/// A container that runs is not known to be held to its limits; `None`: it is.
pub fn limits_not_held(check: LimitCheck) -> Option<Failure> {
    let cause = match check {
        LimitCheck::Held => return None,
        LimitCheck::Unread => {
            "the agent cannot read whether the app's host holds its container to its limits"
                .to_owned()
        }
        LimitCheck::Broken(breach) => {
            format!("the app's host does not hold its container to its limits: {breach}")
        }
    };
    let fix = "wait, the agent keeps trying; the host's administrator runs `buddo-agent doctor`, \
               which says what to do";
    Some(failure(LIMITS_NOT_ENFORCED, cause, fix))
}

/// Containers of this host run without their limits; one of them does so in this way.
pub fn host_without_limits(name: &str, breach: Breach, count: usize) -> Failure {
    let others = match count {
        0 | 1 => String::new(),
        count => format!(", and so do {} others", count - 1),
    };
    failure(
        LIMITS_NOT_ENFORCED,
        format!("{name} runs without its limits: {breach}{others}"),
        format!(
            "let `buddo-agent doctor` say what is wrong with the host and mend that; then remove \
             what still runs so (`podman rm --force {name}`): the agent makes it again, with limits"
        ),
    )
}

/// Code for an unreadable Podman database.
const DATABASE: &str = "podman_database_damaged";

/// What Podman says of its own damaged database, which is one of two kinds (bbolt, SQLite).
const DAMAGE: [&str; 4] = [
    "invalid database",
    "checksum error",
    "database disk image is malformed",
    "file is not a database",
];

/// Podman cannot list its containers. `before`: the trouble until now; a service that has found its
/// database damaged hangs at the next call, and does not start again.
pub fn podman_trouble(error: &ContainersError, before: Option<Failure>) -> Failure {
    match error {
        ContainersError::Refused { message, .. } if is_damage(error) => failure(
            DATABASE,
            format!("Podman's database on the app's host is damaged: {}", cut(message)),
            "the host's administrator moves that file away and reboots the host; the agent \
                 then creates every container again",
        ),
        ContainersError::Refused { message, .. } => failure(
            "podman_refuses",
            format!("Podman on the app's host cannot list its containers: {}", cut(message)),
            "wait, the agent keeps trying; if it lasts, the host's administrator reads Podman's log",
        ),
        error => {
            before.filter(|before| before.code == DATABASE).unwrap_or_else(|| unanswered(error))
        }
    }
}

/// Whether Podman says that its own database is damaged. It does so once, in answer to whichever
/// call comes first. The cause stands last; text before it may come from an image, such as its
/// command, and must not raise an alarm.
pub fn is_damage(error: &ContainersError) -> bool {
    let ContainersError::Refused { message, .. } = error else { return false };
    let cause = message.rsplit(": ").next().unwrap_or_default();
    let cause = cause.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    DAMAGE.contains(&cause) || message.starts_with("opening database ")
}

/// Podman does not answer.
pub fn podman_unavailable() -> Failure {
    failure(
        "podman_unavailable",
        "Podman on the app's host does not answer".to_owned(),
        "wait, the agent keeps trying; if it lasts, the host's administrator restarts podman.service",
    )
}

/// A call to Podman got no answer: from Podman itself, or because something else prevented it.
pub fn unanswered(error: &ContainersError) -> Failure {
    let ContainersError::Unavailable { operation, .. } = error else { return podman_unavailable() };
    match error.hindrance() {
        None => podman_unavailable(),
        Some(Hindrance::Crowded { calls, waited }) => failure(
            "podman_busy",
            format!(
                "Podman on the app's host was at work on {calls} earlier calls for {} s, so that \
                 the agent could not {operation}",
                waited.as_secs()
            ),
            "wait, the agent keeps trying; if it lasts, the host's administrator looks for what \
             keeps Podman busy, such as many pulls at once or a slow disk",
        ),
        Some(Hindrance::TooLarge { most }) => failure(
            "podman_answer_too_large",
            format!(
                "the agent could not {operation}: the answer of Podman on the app's host has more \
                 than {} MiB",
                most / MIB
            ),
            "wait, the agent keeps trying; if it lasts, the host's administrator looks for what \
             Podman has far too much of (`podman ps --all`, `podman images`, `podman secret ls`) \
             and removes it",
        ),
    }
}

/// A stable word for what went wrong.
pub fn code(error: &ContainersError) -> String {
    match error {
        ContainersError::Image(failure)
        | ContainersError::Registry(failure)
        | ContainersError::Full(failure) => failure.code.clone(),
        ContainersError::Unavailable { .. } => unanswered(error).code,
        ContainersError::NotFound(_) => "vanished".to_owned(),
        ContainersError::Refused { .. } => "podman_refused".to_owned(),
    }
}

/// Podman refuses a call that involves secrets; its own words.
pub fn secrets_refused(message: &str) -> Failure {
    failure(
        "podman_secrets_refused",
        format!("Podman on the app's host cannot handle secrets: {}", cut(message)),
        "wait, the agent keeps trying; if it lasts, the host's administrator looks for a full disk \
         and reads Podman's log",
    )
}

/// Podman's stored secrets are damaged and could not be repaired for now.
pub fn secrets_unmended(error: &std::io::Error) -> Failure {
    failure(
        "podman_secrets_damaged",
        format!(
            "Podman's secrets on the app's host cannot be repaired: {}",
            cut(&error.to_string())
        ),
        "wait, the agent keeps trying; if it lasts, the host's administrator looks for a full disk \
         and restarts podman.service",
    )
}

/// Podman's secrets were damaged once; the torn files are kept here.
pub fn secrets_torn(aside: &[PathBuf]) -> String {
    let paths: Vec<_> = aside.iter().map(|path| path.display().to_string()).collect();
    format!(
        "Podman's secrets were damaged by a kill or a full disk; those of apps were restored; \
         remove {} once no other secret is missing, because it may contain values",
        paths.join(" and ")
    )
}

/// Something that existed a moment ago is gone.
pub fn vanished(what: &str) -> Failure {
    failure(
        "vanished",
        format!("{} disappeared from the app's host", cut(what)),
        "wait, the agent recreates it",
    )
}

/// Whether it came after the image was present.
pub fn is_of_start(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "start_refused" | "vanished")
}

/// Whether Podman could not publish the port because something else listens there.
pub fn is_address_held(message: &str) -> bool {
    message.contains("address already in use")
}

/// Podman refused to create or start the container.
pub fn refused(message: &str) -> Failure {
    let fix = if is_address_held(message) {
        "the host's administrator ends what holds that address, or reboots the host"
    } else {
        "check the image's command and architecture, then deploy again"
    };
    failure("start_refused", format!("the container could not be started: {}", cut(message)), fix)
}

/// Whether Podman cannot mount a container's own storage. These words come first in its message,
/// before any that come from an image.
pub fn is_storage_lost(message: &str) -> bool {
    message.starts_with("mounting storage for container ")
}

/// A container's storage is damaged.
pub fn storage_lost(message: &str) -> Failure {
    failure(
        "container_storage_lost",
        format!("Podman cannot mount the container's storage: {}", cut(message)),
        "wait, the agent recreates the container; if it lasts, the host's administrator looks \
         at the disk of Podman's storage",
    )
}

/// The host lacks a resource needed to run another container.
pub fn no_new_apps(lacks: &Failure) -> String {
    format!("this host should get no new apps for now: {}; {}", lacks.cause, lacks.fix)
}

/// All addresses are in use.
pub fn host_full() -> Failure {
    failure(
        "host_full",
        "the host has no free address for another app".to_owned(),
        "destroy an app on this host, or deploy to another host",
    )
}

/// Sealed values that cannot be opened.
pub fn unreadable(what: &str) -> Failure {
    failure(
        "secrets_unreadable",
        format!("the host cannot open the app's {what}: sealed to another key"),
        "deploy again; if it lasts, the host's administrator joins the host again",
    )
}

/// What serves went down and is being started again.
pub fn restarting(exit_code: Option<i32>, crashes: u32) -> Failure {
    let code = match exit_code {
        Some(KILLED) => format!(": it was killed ({KILLED}), most often for memory"),
        Some(code) => format!(" with code {code}"),
        None => String::new(),
    };
    failure(
        "restarting",
        format!("the app's container ended{code}; crash {crashes} in a row, it is started again"),
        MEND,
    )
}

/// What serves stopped answering probes.
pub fn unhealthy(reason: Option<&str>) -> Failure {
    let reason = reason.and_then(last_line).unwrap_or_else(|| "no answer".to_owned());
    failure(
        "unhealthy",
        format!("the app fails its health checks: {reason}; a second container is started"),
        MEND,
    )
}

/// What serves stopped answering probes and gets no second container yet: the host may be the
/// cause, or it is not its turn.
pub fn replacement_waits(reason: Option<&str>, host_trouble: bool) -> Failure {
    let reason = reason.and_then(last_line).unwrap_or_else(|| "no answer".to_owned());
    let (wait, fix) = if host_trouble {
        (
            "its host is in trouble or many of its apps let theirs time out, so a second container \
             waits",
            "wait, the agent goes on once the host is well; if it lasts, the host's administrator \
             looks for what keeps its processors, memory or disk busy"
                .to_owned(),
        )
    } else {
        (
            "a second container waits its turn, since many apps of its host need one",
            format!("wait, its turn comes by itself; if it lasts, {MEND}"),
        )
    };
    failure("unhealthy", format!("the app fails its health checks: {reason}; {wait}"), fix)
}

/// Auto rollback gave `revision` up, `lived` after it went live, and rolls back to `fallback`.
pub fn auto_rollback(
    verdict: &RollbackVerdict,
    revision: Revision,
    fallback: Revision,
    lived: Duration,
    limits: Limits,
) -> Failure {
    let lived = lived.as_secs().max(1);
    let (code, what, fix) = match verdict {
        RollbackVerdict::CrashLoop { ends, code, last_words } => {
            let code = code.map(|code| format!(", last with code {code}")).unwrap_or_default();
            let said = last_line(last_words).map(|line| format!(": {line}")).unwrap_or_default();
            let what = format!("ended {ends} times within {lived} s of going live{code}{said}");
            ("guard_crash_loop", what, MEND)
        }
        RollbackVerdict::Memory { kills, certain } => {
            let memory = limits.memory_mb;
            let what = if *certain {
                format!(
                    "ran out of its {memory} MB of memory {kills} times within {lived} s of going live"
                )
            } else {
                format!(
                    "was killed ({KILLED}) {kills} times within {lived} s of going live, most often \
                     for more memory than its {memory} MB"
                )
            };
            ("guard_oom", what, "let the app use less memory, or deploy it to a larger tier")
        }
        RollbackVerdict::Unhealthy { lasted, reason } => {
            let (lasted, reason) = (lasted.as_secs(), cut(reason));
            let what = format!(
                "has failed its health checks for {lasted} s, {lived} s after going live: {reason}"
            );
            ("guard_unhealthy", what, MEND)
        }
        RollbackVerdict::Errors(Rates { now, before }) => {
            let seconds = Rates::SECONDS;
            let lately = seconds.min(lived);
            let what = format!(
                "answered {now} requests with a server error (5xx) in {lately} s, {lived} s after \
                 going live; before it there were {before:.1} in {seconds} s"
            );
            ("guard_errors", what, MEND)
        }
    };
    failure(code, format!("revision {revision} {what}; rolled back to revision {fallback}"), fix)
}

/// Auto rollback gave `revision` up because none of its containers can be made to answer again.
pub fn auto_rollback_gone(revision: Revision, fallback: Revision, why: &Failure) -> Failure {
    failure(
        "guard_crash_loop",
        format!(
            "revision {revision} went down soon after it went live and does not come back: {}; \
             rolled back to revision {fallback}",
            why.cause
        ),
        why.fix.clone(),
    )
}

/// Rolling back to the previous revision failed, too.
pub fn not_rolled_back(failure: &Failure, fallback: Revision, why: &Failure) -> Failure {
    Failure {
        cause: format!(
            "{}; revision {fallback} could not be brought back: {}",
            failure.cause, why.cause
        ),
        ..failure.clone()
    }
}

/// The failure of one of several services.
pub fn of_service(service: ServiceName, failure: Failure) -> Failure {
    Failure { cause: format!("service {service}: {}", failure.cause), ..failure }
}

/// The service goes back to revision `fallback` of its deployment, because `culprit` was given up.
pub fn rolled_back_together(culprit: ServiceName, fallback: Revision, why: &Failure) -> Failure {
    let cause = format!(
        "goes back to revision {fallback} with the service {culprit}, which was given up: {}",
        why.cause
    );
    Failure { cause, ..why.clone() }
}

fn cut(text: &str) -> String {
    last_line(text).unwrap_or_else(|| "no reason given".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 };

    fn exit(exit_code: i32, oom_killed: bool, log: &str) -> ExitInfo {
        ExitInfo { exit_code, oom_killed, log_tail: log.to_owned() }
    }

    #[test]
    fn the_end_of_the_log_is_quoted_on_one_line() {
        let log = format!("starting\nfatal: no DATABASE_URL\u{1b}[0m {}\n\n", "x".repeat(500));
        let failure = exited_at_start(&exit(1, false, &log), 3, LIMITS);
        assert_eq!(failure.code, "exited_at_start");
        assert!(
            failure.cause.contains("code 1 3 times before it answered: fatal: no DATABASE_URL")
        );
        assert!(!failure.cause.contains(char::is_control) && failure.cause.len() < 300);
    }

    #[test]
    fn fm_19_only_podmans_own_errors_count_as_a_damaged_database() {
        let refused = |message: &str| ContainersError::Refused {
            operation: "a test",
            status: 500,
            message: message.to_owned(),
        };
        for said in [
            "opening database /s/libpod/bolt_state.db: unexpected EOF",
            "reading the state: invalid database",
            "beginning a transaction: database disk image is malformed",
            "opening the database: file is not a database (26)",
        ] {
            assert!(is_damage(&refused(said)), "{said}");
        }
        for said in [
            "crun: executable file `malformed` not found in $PATH: No such file or directory",
            "unable to find user invalid database: no matching entries in passwd file",
            "crun: open executable: checksum error: Permission denied",
        ] {
            assert!(!is_damage(&refused(said)), "{said}");
        }
    }

    #[test]
    fn advice_never_points_to_unavailable_logs() {
        let (old, new, lived) = (Revision::new(1), Revision::new(2), Duration::from_secs(9));
        let rolled_back = |verdict| auto_rollback(&verdict, new, old, lived, LIMITS);
        let looped =
            RollbackVerdict::CrashLoop { ends: 3, code: Some(1), last_words: String::new() };
        let sick = RollbackVerdict::Unhealthy { lasted: lived, reason: "status 500".to_owned() };
        for failure in [
            exited_at_start(&exit(1, false, ""), 3, LIMITS),
            restarting(Some(1), 2),
            unhealthy(None),
            replacement_waits(None, false),
            rolled_back(looped),
            rolled_back(sick),
            rolled_back(RollbackVerdict::Errors(Rates { now: 40, before: 0.0 })),
        ] {
            assert!(!failure.fix.contains("logs"), "{}", failure.fix);
            assert!(failure.fix.ends_with("correct it and deploy again"), "{}", failure.fix);
        }
    }

    #[test]
    fn out_of_memory_names_the_limit() {
        let failure = exited_at_start(&exit(137, true, ""), 3, LIMITS);
        assert_eq!(failure.code, "out_of_memory");
        assert!(failure.cause.contains("256 MB"));
    }

    /// Podman does not always say that it was memory; then the message does not claim it.
    #[test]
    fn an_unexplained_kill_is_reported_as_probably_out_of_memory() {
        let failure = exited_at_start(&exit(137, false, "loading model"), 3, LIMITS);
        assert_eq!(failure.code, "killed_at_start");
        assert!(failure.cause.contains("killed (137) 3 times"), "{}", failure.cause);
        assert!(failure.cause.contains("most often for more memory than its 256 MB: loading"));
        assert!(failure.fix.contains("larger tier"));
        assert!(restarting(Some(137), 1).cause.contains("most often for memory"));
        assert!(restarting(Some(1), 1).cause.contains("ended with code 1;"));
    }

    #[test]
    fn a_damaged_database_is_named_until_podman_lists_again() {
        let message = "opening database /home/a/libpod/bolt_state.db: invalid database".to_owned();
        let refused = ContainersError::Refused { operation: "list", status: 500, message };
        let damaged = podman_trouble(&refused, None);
        assert!(damaged.cause.contains("bolt_state.db") && damaged.fix.contains("moves that file"));
        let away = || ContainersError::Unavailable { operation: "list", source: "away".into() };
        assert_eq!(podman_trouble(&away(), Some(damaged.clone())), damaged);
        assert_eq!(podman_trouble(&away(), None), podman_unavailable());
        assert_eq!(podman_trouble(&away(), Some(host_full())), podman_unavailable());
    }

    #[test]
    fn busy_or_oversized_calls_are_not_reported_as_a_silent_podman() {
        let hindered = |hindrance: Hindrance| ContainersError::Unavailable {
            operation: "list containers",
            source: Box::new(hindrance),
        };
        let crowded = hindered(Hindrance::Crowded { calls: 32, waited: Duration::from_secs(10) });
        let large = hindered(Hindrance::TooLarge { most: 16 * MIB });
        for (error, code, parts) in [
            (&crowded, "podman_busy", ["32 earlier calls for 10 s", "could not list containers"]),
            (&large, "podman_answer_too_large", ["could not list containers", "than 16 MiB"]),
        ] {
            let failure = podman_trouble(error, None);
            assert_eq!(failure.code, code);
            assert!(!failure.cause.contains("does not answer"), "{}", failure.cause);
            assert!(parts.iter().all(|part| failure.cause.contains(part)), "{}", failure.cause);
            assert!(failure.fix.contains("administrator"), "{}", failure.fix);
            assert_eq!(unanswered(error), failure);
        }
    }

    #[test]
    fn the_port_and_the_last_probe_are_named() {
        let failure = never_healthy(Port::DEFAULT, 60, Some("connection closed"));
        assert!(failure.cause.contains("port 3000 within 60 s: connection closed"));
        assert!(failure.fix.contains("0.0.0.0:3000"));
    }
}
