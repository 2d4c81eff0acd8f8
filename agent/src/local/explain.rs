//! Why an app is in the state it is in, and what happens next: state → words. Pure.

use std::time::Duration;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{
    DeploymentStatus, Health, HostStatus, Phase, ReplicaStatus, ServiceStatus,
};
use buddo_shared::model::id::Revision;
use buddo_shared::terminal::clean;
use serde::{Deserialize, Serialize};

use crate::model::cgroup::CgroupCounts;
use crate::model::container::KILLED;
use crate::model::live_table::Target;
use crate::model::snapshot::{DeploymentSnapshot, ExitSnapshot};

/// An app's state in words, one or two sentences per field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub app: String,
    /// The current state.
    pub state: String,
    pub why: String,
    pub visitors: String,
    pub next: String,
    /// How each of its services is, unless it consists of the one service `app`.
    #[serde(default)]
    pub services: Vec<String>,
    /// How it met its limits, and how it last ended.
    #[serde(default)]
    pub limits: Vec<String>,
    /// What is wrong with its host, which may be the cause.
    #[serde(default)]
    pub host: Vec<String>,
}

/// For a person at a terminal.
impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}\n\nWhy       {}\nVisitors  {}\nNext      {}",
            clean(&self.app),
            clean(&self.state),
            clean(&self.why),
            clean(&self.visitors),
            clean(&self.next)
        )?;
        self.services.iter().try_for_each(|line| write!(f, "\nService   {}", clean(line)))?;
        self.limits.iter().try_for_each(|line| write!(f, "\nLimits    {}", clean(line)))?;
        self.host.iter().try_for_each(|trouble| write!(f, "\nHost      {}", clean(trouble)))
    }
}

/// Explains one deployment on a host that is in this state.
pub fn explain(app: &DeploymentSnapshot, host: &HostStatus) -> Explanation {
    let name = app.subdomain.clone().unwrap_or_else(|| app.status.id.to_string());
    Explanation {
        app: name,
        state: state(app),
        why: why(app),
        visitors: visitors(app),
        next: next(app),
        services: app.status.named_services().iter().map(service).collect(),
        limits: limits(app),
        host: troubles(host),
    }
}

/// What the kernel did to it because of its limits, and the last end of its container.
fn limits(app: &DeploymentSnapshot) -> Vec<String> {
    let CgroupCounts { oom_kills, pids_refused, throttled_periods, throttled_us } =
        app.counts.unwrap_or_default();
    let seconds = Duration::from_micros(throttled_us).as_secs_f64();
    let last = app.last_exit.map(|ExitSnapshot { code, oom, at }| {
        let how = match code {
            _ if oom => "was killed for using more than its memory limit".to_owned(),
            Some(KILLED) => format!("was killed ({KILLED}), most often for memory"),
            Some(code) => format!("ended with code {code}"),
            None => "ended".to_owned(),
        };
        format!("its container {how} at {at:.0}")
    });
    let since = "since its container was started";
    [
        (oom_kills > 0).then(|| {
            format!("{oom_kills} of its processes were killed at its memory limit, {since}")
        }),
        (pids_refused > 0)
            .then(|| format!("{pids_refused} times it got no further process or thread, {since}")),
        (throttled_periods > 0).then(|| {
            format!(
                "in {throttled_periods} periods it used up its CPU limit, {since}; its threads \
                 waited {seconds:.1} s in all"
            )
        }),
        last,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How one service is; its revision is the one that introduced its content.
fn service(service: &ServiceStatus) -> String {
    let replicas = match service.replicas.len() {
        0 | 1 => String::new(),
        all => {
            let healthy = |replica: &&ReplicaStatus| replica.health == Health::Healthy;
            let healthy = service.replicas.iter().filter(healthy).count();
            format!(" ({healthy} of {all} replicas are healthy)")
        }
    };
    let why =
        service.failure.as_ref().map(|failure| format!(": {}. {}.", failure.cause, failure.fix));
    let words = progress(service.phase, service.revision);
    format!("{} {words}{replicas}{}", service.name, why.unwrap_or_default())
}

/// Everything that is wrong with the host: any of it may be the cause of an app's state.
fn troubles(host: &HostStatus) -> Vec<String> {
    let stale = host.stale.then(|| {
        "the document has expired: what runs keeps running, changes wait for the coordinator"
            .to_owned()
    });
    stale.into_iter().chain(host.warnings.iter().cloned()).collect()
}

fn state(app: &DeploymentSnapshot) -> String {
    let DeploymentStatus { phase, revision, rolled_back_to, .. } = app.status;
    match rolled_back_to {
        Some(old) if phase == Phase::Failed => {
            format!("went back to revision {old}: revision {revision} was given up")
        }
        _ => progress(phase, revision),
    }
}

fn progress(phase: Phase, revision: Revision) -> String {
    match phase {
        Phase::Accepted => format!("is accepted; revision {revision} has no container yet"),
        Phase::Pulling => format!("is being deployed: the image of revision {revision} is pulled"),
        Phase::Starting => format!("is being started: revision {revision}"),
        Phase::Probing => {
            format!("is being probed: revision {revision} runs, has not answered yet")
        }
        Phase::Routing => {
            format!("answers; the route or certificate of revision {revision} is made")
        }
        Phase::Live => format!("is live with revision {revision}"),
        Phase::Stopping => "is being stopped".to_owned(),
        Phase::Stopped => "is stopped".to_owned(),
        Phase::Failed => format!("failed: revision {revision} was given up"),
    }
}

fn why(app: &DeploymentSnapshot) -> String {
    if let Some(failure) = &app.status.failure {
        return format!("{}. To mend it: {}.", failure.cause, failure.fix);
    }
    if let Some(failure) = &app.given_up {
        return format!("its deploy failed: {}. To mend it: {}.", failure.cause, failure.fix);
    }
    match (app.run, app.status.phase) {
        (None, _) => "its operator destroyed it".to_owned(),
        (Some(RunState::Stopped), _) => "its operator stopped it".to_owned(),
        (Some(RunState::Suspended), _) => "the platform suspended it".to_owned(),
        (Some(RunState::Running), Phase::Live) => {
            let how = match app.status.health {
                Health::Healthy => "its container answers probes",
                Health::Unknown => "it served before the agent came back, and runs",
                Health::Unhealthy => "its container runs, but fails its probes",
            };
            let kills = match app.kills {
                0 => "",
                _ => "; since it went live, a process of it was killed for memory",
            };
            let restarts = match app.status.restarts {
                0 => String::new(),
                1 => "; it went down once recently and was started again".to_owned(),
                times => format!("; it went down {times} times recently and was started again"),
            };
            format!("{how}{kills}{restarts}")
        }
        (Some(RunState::Running), _) => {
            let problem = app.containers.iter().find_map(|container| container.problem.as_ref());
            problem.map_or_else(
                || "the document wants it to run, and it is on its way".to_owned(),
                |problem| format!("the last probe failed: {problem}"),
            )
        }
    }
}

fn visitors(app: &DeploymentSnapshot) -> String {
    match (&app.target, app.status.serving) {
        (Some(Target::Live { addresses }), Some(serving)) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!("reach revision {serving} at {}", addresses.join(", "))
        }
        (Some(Target::Live { .. }), None) => "reach its container".to_owned(),
        (Some(Target::Hold), _) => "wait up to 10 seconds for a container that answers".to_owned(),
        (Some(Target::Stopped), _) => "see the page that says the app is stopped".to_owned(),
        (Some(Target::Suspended), _) => "see the page that says the app is suspended".to_owned(),
        (None, _) => "see the page that knows no such app".to_owned(),
    }
}

fn next(app: &DeploymentSnapshot) -> String {
    if !app.doing.is_empty() {
        let waiting = if app.planned.is_empty() { "" } else { "; more is planned after that" };
        return format!("now: {}{waiting}", app.doing.join(", "));
    }
    if !app.planned.is_empty() {
        return format!("about to {}", app.planned.join(", then "));
    }
    let look = app.next_look_ms.map(|ms| {
        let seconds = ms.div_ceil(1_000);
        format!(" It is looked at again within {seconds} s.")
    });
    if let Some(seconds) = app.retry_s {
        return format!("it is tried again in {seconds} s; each failure makes the wait longer.");
    }
    if let Some(old) = app.status.rolled_back_to.filter(|old| app.status.serving != Some(*old)) {
        return format!("revision {old} is rolled out, and gets the visitors once it answers.");
    }
    if let Some(draining) = app.containers.iter().find(|container| container.drains) {
        let name = &draining.name;
        return format!(
            "{name} gets no new requests, and leaves once those under way are answered."
        );
    }
    if let (Phase::Live, Some(seconds)) = (app.status.phase, app.watched_s) {
        return format!(
            "nothing, if all goes well: it is watched for {seconds} s more, and rolled back to the \
             previous revision if it crashes, runs out of memory or fails its visitors."
        );
    }
    let words = match app.status.phase {
        Phase::Live if app.status.restarts > 0 => {
            "it is restarted whenever it ends, ever later the more often that happens."
        }
        Phase::Live => "nothing: it is as it should be.",
        Phase::Stopped => "nothing, until its operator starts it.",
        Phase::Failed => "this revision is not tried again; the next deploy or restart is.",
        Phase::Probing => "it is probed until it answers or its start deadline passes.",
        Phase::Routing => "the agent makes a handshake until a certificate is served.",
        Phase::Stopping => "its container is removed once its last requests are answered.",
        Phase::Accepted | Phase::Pulling | Phase::Starting => "the agent is working on it.",
    };
    format!("{words}{}", look.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use buddo_shared::host_wire::report::Failure;
    use buddo_shared::model::id::DeploymentId;
    use buddo_shared::model::workload::ReplicaIndex;
    use uuid::Uuid;

    use super::*;

    fn snapshot(phase: Phase, failure: Option<Failure>) -> DeploymentSnapshot {
        let status = DeploymentStatus {
            revision: Revision::new(2),
            phase,
            failure,
            services: vec![one("app", phase)],
            ..crate::testing::status(DeploymentId::new(Uuid::from_u128(1)))
        };
        DeploymentSnapshot {
            target: Some(Target::Live { addresses: smallvec::smallvec![[127, 64, 0, 1].into()] }),
            ..crate::testing::deployment_snapshot(status)
        }
    }

    fn one(name: &str, phase: Phase) -> ServiceStatus {
        ServiceStatus {
            name: name.parse().unwrap(),
            revision: Revision::new(2),
            phase,
            digest: None,
            failure: None,
            replicas: vec![replica(0, Health::Healthy)],
        }
    }

    fn replica(number: u16, health: Health) -> ReplicaStatus {
        ReplicaStatus {
            replica: ReplicaIndex::new(number),
            serving: Some(Revision::FIRST),
            health,
            checked_at: None,
            container: None,
            restarts: 0,
        }
    }

    #[test]
    fn services_are_named_where_there_are_several_or_another_than_app() {
        let mut app = snapshot(Phase::Probing, None);
        assert_eq!(explain(&app, &host()).services, Vec::<String>::new());
        app.status.services = vec![one("web", Phase::Live)];
        assert_eq!(explain(&app, &host()).services, ["web is live with revision 2"]);
        let failure = crate::plan::messages::host_full();
        let replicas = vec![replica(0, Health::Healthy), replica(1, Health::Unknown)];
        app.status.services = vec![
            ServiceStatus { replicas, ..one("app", Phase::Probing) },
            ServiceStatus { failure: Some(failure), ..one("worker", Phase::Failed) },
        ];
        says(
            &app,
            &host(),
            &[
                "Service   app is being probed: revision 2 runs, has not answered yet \
                 (1 of 2 replicas are healthy)\n",
                "Service   worker failed: revision 2 was given up: the host has no free address",
            ],
        );
    }

    fn host() -> HostStatus {
        HostStatus {
            agent_version: "0.1.0".to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb: 1,
            allocatable_mb: None,
            cpu_millicores: 1,
            warnings: Vec::new(),
            lacks: None,
        }
    }

    fn says(app: &DeploymentSnapshot, host: &HostStatus, parts: &[&str]) {
        let words = explain(app, host).to_string();
        for part in parts {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
    }

    #[test]
    fn explains_how_long_a_revision_is_watched_and_why_it_would_be_rolled_back() {
        let mut app = snapshot(Phase::Live, None);
        app.watched_s = Some(250);
        says(
            &app,
            &host(),
            &["is live with revision 2", "for 250 s more", "rolled back to the previous"],
        );
        assert!(!explain(&app, &host()).to_string().contains("killed"));
        app.kills = 1;
        says(&app, &host(), &["answers probes; since it went live", "killed for memory"]);
    }

    /// It may be live and well again, and nobody would know otherwise.
    #[test]
    fn explains_what_the_limits_did_to_an_app_and_how_it_last_ended() {
        let mut app = snapshot(Phase::Live, None);
        app.counts = Some(CgroupCounts::default());
        assert_eq!(explain(&app, &host()).limits, Vec::<String>::new());
        app.counts = Some(CgroupCounts {
            oom_kills: 2,
            pids_refused: 7,
            throttled_periods: 40,
            throttled_us: 3_140_000,
        });
        app.last_exit = Some(ExitSnapshot {
            code: Some(KILLED),
            oom: false,
            at: "2026-06-01T12:00:00.5Z".parse().unwrap(),
        });
        says(
            &app,
            &host(),
            &[
                "Limits    2 of its processes were killed at its memory limit",
                "Limits    7 times it got no further process",
                "Limits    in 40 periods it used up its CPU limit",
                "waited 3.1 s in all",
                "its container was killed (137), most often for memory at 2026-06-01T12:00:00Z",
            ],
        );
    }

    #[test]
    fn a_live_app_with_recent_restarts_is_not_reported_as_fine() {
        let mut app = snapshot(Phase::Live, None);
        assert!(explain(&app, &host()).to_string().contains("nothing: it is as it should be"));
        app.status.restarts = 3;
        says(&app, &host(), &["it went down 3 times recently", "ever later"]);
        assert!(!explain(&app, &host()).to_string().contains("nothing"));
    }

    #[test]
    fn explains_the_cause_of_a_rollback_and_what_serves() {
        use crate::plan::rollback_watch::RollbackVerdict;
        let limits =
            buddo_shared::model::limits::Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 };
        let [old, new] = [1, 2].map(Revision::new);
        let lived = Duration::from_secs(12);
        let verdict = RollbackVerdict::Memory { kills: 2, certain: true };
        let failure = crate::plan::messages::auto_rollback(&verdict, new, old, lived, limits);
        let mut app = snapshot(Phase::Failed, Some(failure));
        app.status.rolled_back_to = Some(old);
        let why =
            ["went back to revision 1", "256 MB of memory 2 times within 12 s", "larger tier"];
        says(&app, &host(), &why);
        says(&app, &host(), &["reach revision 1", "the next deploy or restart is"]);
        app.status.serving = None;
        app.target = Some(Target::Hold);
        says(&app, &host(), &["wait up to 10 seconds", "revision 1 is rolled out"]);
    }

    #[test]
    fn explains_a_recreate_a_drain_and_a_retry() {
        let mut app = snapshot(Phase::Starting, None);
        (app.status.serving, app.target) = (None, Some(Target::Hold));
        app.doing = vec!["start buddo-x-r2-b".to_owned()];
        says(&app, &host(), &["wait up to 10 seconds", "now: start buddo-x-r2-b"]);
        app.doing.clear();
        app.retry_s = Some(8);
        says(&app, &host(), &["tried again in 8 s", "makes the wait longer"]);

        let mut app = snapshot(Phase::Live, None);
        app.containers.push(crate::model::snapshot::ContainerSnapshot {
            name: "buddo-x-r1-a".to_owned(),
            state: "running".to_owned(),
            address: None,
            health: None,
            drains: true,
            problem: None,
        });
        says(&app, &host(), &["buddo-x-r1-a gets no new requests"]);
    }

    #[test]
    fn explains_host_trouble_with_each_app() {
        let mut host = host();
        host.stale = true;
        host.warnings = vec![
            crate::plan::messages::podman_unavailable().cause,
            "the agent's database cannot be written; is the disk full?".to_owned(),
        ];
        let app = snapshot(Phase::Live, None);
        let parts = ["document has expired", "Podman on the app's host does not answer"];
        says(&app, &host, &parts);
        says(&app, &host, &["disk full"]);
        let refused = Failure {
            code: "route_refused".to_owned(),
            cause: "Caddy refused the route file app-1.caddy: no".to_owned(),
            fix: "check the deployment's custom domains".to_owned(),
        };
        says(
            &snapshot(Phase::Live, Some(refused)),
            &host,
            &["refused the route file", "To mend it"],
        );
    }

    #[test]
    fn explains_the_cause_of_a_failed_update_its_fix_and_what_serves() {
        let failure = crate::plan::messages::never_healthy(
            buddo_shared::model::port::Port::DEFAULT,
            60,
            Some("connection refused"),
        );
        let words = explain(&snapshot(Phase::Failed, Some(failure)), &host()).to_string();
        for part in [
            "revision 2 was given up",
            "connection refused",
            "0.0.0.0:3000",
            "reach revision 1",
            "not tried again",
        ] {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
    }

    #[test]
    fn a_failed_deploy_is_not_explained_as_a_stop_by_the_operator() {
        let mut app = snapshot(Phase::Stopped, None);
        app.run = Some(RunState::Stopped);
        assert_eq!(explain(&app, &host()).why, "its operator stopped it");
        app.given_up = Some(crate::plan::messages::host_full());
        assert!(
            explain(&app, &host())
                .why
                .starts_with("its deploy failed: the host has no free address")
        );
    }

    #[test]
    fn current_work_is_explained_before_planned_work() {
        let mut app = snapshot(Phase::Pulling, None);
        app.doing = vec!["have the image".to_owned()];
        app.planned = vec!["start it".to_owned()];
        assert_eq!(explain(&app, &host()).next, "now: have the image; more is planned after that");
        app.doing.clear();
        assert_eq!(explain(&app, &host()).next, "about to start it");
    }
}
