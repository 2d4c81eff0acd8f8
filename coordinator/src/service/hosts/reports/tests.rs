use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{self, Health, HostStatus, ServiceStatus};
use buddo_shared::model::id::Revision;
use buddo_shared::model::workload::ReplicaIndex;
use rstest::rstest;

use super::*;
use crate::domain::lifecycle::Status;
use crate::testing::story::{self, Story, commit, digest, resolved, service, status};
use crate::testing::{deploys as deployments, heard, owner, services};

#[tokio::test]
async fn a_deploy_goes_from_pending_to_running() {
    let mut story = Story::begin().await;
    assert_eq!(story.stored().await.status(), Status::Pending);
    let d = story.report(status(story.id, 1, Phase::Pulling, None)).await;
    assert_eq!((d.status(), d.deployed_at), (Status::Deploying, None));
    assert_eq!(story.log().await, ["create completed", "deploy pending"]);
    let d = story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    assert_eq!(d.status(), Status::Running);
    assert_eq!(d.deployed_at, Some(story.world.state.clock.now()));
    assert_eq!(story.log().await, ["create completed", "deploy completed"]);
}

#[tokio::test]
async fn a_failed_first_deploy_ends_stopped_with_its_cause() {
    let mut story = Story::begin().await;
    let before = story.generation().await;
    let d = story.report(status(story.id, 1, Phase::Failed, None)).await;
    assert_eq!((d.status(), d.run), (Status::Stopped, RunState::Stopped));
    let error = d.failure.unwrap().to_string();
    assert_eq!(error, "the registry has no such image\ncheck the name and the tag");
    assert_eq!(story.generation().await, before + 1);
    assert_eq!(story.log().await, ["create completed", "deploy failed"]);
}

#[tokio::test]
async fn a_failed_restart_keeps_the_old_revision_and_says_why() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    story.restart().await;
    let before = story.generation().await;
    let d = story.report(status(story.id, 2, Phase::Failed, Some(1))).await;
    assert_eq!((d.status(), d.revision), (Status::Running, Revision::FIRST));
    assert!(d.failure.is_some());
    assert_eq!(story.generation().await, before + 1, "the next document names the old one");
    // The host repeats that the old one is live; that is no success of the new one.
    let d = story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    assert!(d.failure.is_some());
    assert_eq!(story.log().await.last().unwrap(), "deploy failed");
    // A further restart takes a number that was never used.
    story.restart().await;
    let d = story.stored().await;
    assert_eq!((d.revision.get(), d.status(), d.failure), (3, Status::Deploying, None));
}

#[tokio::test]
async fn a_repeated_batch_changes_nothing() {
    let story = Story::begin().await;
    let at = story.world.state.clock.now();
    let live = || status(story.id, 1, Phase::Live, Some(1));
    let crashed = || DeploymentStatus {
        failure: Some(restarting()),
        health: Health::Unknown,
        ..status(story.id, 1, Phase::Starting, None)
    };
    let send = async |batch: Vec<(u64, DeploymentStatus)>| {
        let reports = batch.into_iter().map(|(seq, status)| {
            let body = ReportBody::Deployment(status);
            Report { seq, at, body }
        });
        commit(&story.world.state, story.host, reports.collect()).await.unwrap()
    };
    let shown = async || {
        let d = story.stored().await;
        (d.health, d.trouble.is_some())
    };
    let down = (Some(Health::Unhealthy), true);
    assert_eq!(send(vec![(1, live()), (2, crashed())]).await, 2);
    assert_eq!(shown().await, down);
    let before = story.generation().await;
    // Each report alone would be new: what was committed must not be applied again.
    assert_eq!(send(vec![(1, live())]).await, 2, "the answer is what all is committed up to");
    assert_eq!(shown().await, down, "the older report comes again, alone");
    assert_eq!(send(vec![(2, live())]).await, 2);
    assert_eq!(shown().await, down, "another report under a number that was used");
    assert_eq!(send(vec![(1, crashed()), (2, crashed()), (3, live())]).await, 3);
    assert_eq!(shown().await, (Some(Health::Healthy), false), "what is new in it counts");
    assert_eq!(send(vec![(1, live()), (2, crashed())]).await, 3);
    assert_eq!(shown().await, (Some(Health::Healthy), false), "the whole batch comes again");
    assert_eq!(story.generation().await, before);
    assert_eq!(story.log().await, ["create completed", "deploy completed"]);
}

#[tokio::test]
async fn report_times_ahead_of_the_coordinators_clock_are_capped() {
    let story = Story::begin().await;
    let now = story.world.clock_now();
    let ahead = now + jiff::SignedDuration::from_hours(24 * 365);
    let body =
        DeploymentStatus { checked_at: Some(ahead), ..status(story.id, 1, Phase::Live, Some(1)) };
    let report = Report { seq: 1, at: ahead, body: ReportBody::Deployment(body) };
    commit(&story.world.state, story.host, vec![report]).await.unwrap();
    let d = story.stored().await;
    assert_eq!((d.last_health_check, d.deployed_at), (Some(now), Some(now)));
    let shown = async |story: &Story| {
        let shown = deployments::status(&story.world.state, owner(1), story.id).await;
        shown.unwrap().last_health_check.unwrap()
    };
    let probe = Checked { id: story.id, at: ahead };
    show(&story.world.state, story.host, Vec::new(), vec![probe]).await.unwrap();
    assert_eq!(shown(&story).await, now);
    // A value stored before this check existed is corrected by the next report.
    let path = story.world.state.config.database();
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "UPDATE deployments SET last_health_check = ?1";
    connection.execute(sql, [ahead.as_millisecond()]).unwrap();
    let checked_at = Some(now);
    let body = status(story.id, 1, Phase::Live, Some(1));
    let report = Report {
        seq: 2,
        at: now,
        body: ReportBody::Deployment(DeploymentStatus { checked_at, ..body }),
    };
    commit(&story.world.state, story.host, vec![report]).await.unwrap();
    assert_eq!(story.stored().await.last_health_check, Some(now));
}

#[tokio::test]
async fn late_reports_change_nothing() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    story.restart().await;
    let d = story.report(status(story.id, 1, Phase::Failed, None)).await;
    assert_eq!((d.status(), d.failure), (Status::Deploying, None), "about an older revision");
    deployments::stop(&story.world.state, owner(1), story.id).await.unwrap();
    let d = story.report(status(story.id, 2, Phase::Live, Some(2))).await;
    assert_eq!(d.status(), Status::Stopped, "after a stop");
    deployments::destroy(&story.world.state, owner(1), story.id).await.unwrap();
    let d = story.report(status(story.id, 2, Phase::Live, Some(2))).await;
    assert_eq!(d.status(), Status::Destroyed, "after a destroy");
}

#[tokio::test]
async fn reports_about_other_hosts_deployments_are_ignored() {
    let story = Story::begin().await;
    let (other, _) = story.world.host(2, 4096).await;
    let at = story.world.state.clock.now();
    let body = ReportBody::Deployment(status(story.id, 1, Phase::Live, Some(1)));
    let (log, _guard) = heard();
    let mut complaints = Complaints::default();
    for seq in 1..=10 {
        let batch = vec![Report { seq, at, body: body.clone() }];
        super::commit(&story.world.state, other, batch, &mut complaints).await.unwrap();
    }
    assert_eq!(story.stored().await.status(), Status::Pending);
    let text = log.text();
    let said = |level: &str| {
        let line = |line: &&str| line.contains(level) && line.contains("that are not on it");
        text.lines().filter(line).count()
    };
    assert_eq!((said("WARN"), said("DEBUG")), (1, 9), "once a session");
}

#[tokio::test]
async fn fm_33_a_revision_keeps_the_first_reported_digest() {
    let mut story = Story::begin().await;
    for bytes in [1, 2] {
        let starting = status(story.id, 1, Phase::Starting, None);
        story.report(resolved(starting, digest(bytes))).await;
    }
    let shown = deployments::get(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!(shown.deployment.image_digest, Some(digest(1).to_string()));
}

fn restarting() -> report::Failure {
    report::Failure {
        code: "restarting".to_owned(),
        cause: "the app's container ended\nwith code 1".to_owned(),
        fix: "read the app's logs".to_owned(),
    }
}

#[tokio::test]
async fn a_crashed_live_app_stays_running_with_a_warning_until_it_recovers() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    let crashed = DeploymentStatus {
        failure: Some(restarting()),
        health: Health::Unknown,
        ..status(story.id, 1, Phase::Starting, None)
    };
    let d = story.report(crashed).await;
    assert_eq!((d.status(), d.run), (Status::Running, RunState::Running));
    let shown = deployments::status(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!(shown.health_status.as_deref(), Some("unhealthy"));
    assert_eq!((&shown.last_error, &shown.failure, &shown.waiting), (&None, &None, &None));
    let warning = shown.warning.unwrap();
    assert_eq!(warning.cause, "the app's container ended with code 1");
    assert_eq!(warning.fix, "read the app's logs");
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    let shown = deployments::status(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!((shown.health_status.as_deref(), shown.warning), (Some("healthy"), None));
    assert_eq!(story.log().await, ["create completed", "deploy completed"]);
}

#[tokio::test]
async fn restarts_are_shown_as_the_host_reports_them() {
    let mut story = Story::begin().await;
    let live = status(story.id, 1, Phase::Live, Some(1));
    story.report(live.clone()).await;
    let shown = async |story: &Story| {
        let state = &story.world.state;
        let short = deployments::status(state, owner(1), story.id).await.unwrap();
        let whole = deployments::get(state, owner(1), story.id).await.unwrap().deployment;
        assert_eq!(short.restarts, whole.restarts);
        (short.restarts, short.health_status.unwrap_or_default())
    };
    assert_eq!(shown(&story).await, (0, "healthy".to_owned()));
    story.report(DeploymentStatus { restarts: 3, ..live.clone() }).await;
    assert_eq!(shown(&story).await, (3, "healthy".to_owned()));
    story.report(live.clone()).await;
    assert_eq!(shown(&story).await.0, 0);
    story.report(DeploymentStatus { restarts: 2, ..live }).await;
    deployments::stop(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!(shown(&story).await.0, 0, "what is stopped does not go down");
}

#[tokio::test]
async fn a_failure_without_a_cause_still_ends_the_deploy() {
    let mut story = Story::begin().await;
    let mute = DeploymentStatus { failure: None, ..status(story.id, 1, Phase::Failed, None) };
    let d = story.report(mute).await;
    assert_eq!(d.status(), Status::Stopped);
    assert!(d.failure.unwrap().cause.contains("did not say why"));
}

#[tokio::test]
async fn an_unknown_serving_revision_is_never_made_current() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    story.restart().await;
    let d = story.report(status(story.id, 2, Phase::Failed, Some(7))).await;
    assert_eq!((d.status(), d.revision.get()), (Status::Running, 2));
    assert!(d.failure.is_some());
    // It can still be shown, and a restart takes a number unknown to the host.
    deployments::get(&story.world.state, owner(1), story.id).await.unwrap();
    story.restart().await;
    assert_eq!(story.stored().await.revision.get(), 8);
}

#[tokio::test]
async fn a_removed_report_changes_nothing() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    let at = story.world.state.clock.now();
    let ids = [story.id, DeploymentId::new(uuid::Uuid::nil())];
    let reports = ids.into_iter().zip(2..).map(|(id, seq)| Report {
        seq,
        at,
        body: ReportBody::Removed { id },
    });
    let through = commit(&story.world.state, story.host, reports.collect()).await.unwrap();
    assert_eq!(through, 3);
    assert_eq!(story.stored().await.status(), Status::Running);
}

#[tokio::test]
async fn progress_and_probes_count_only_from_the_deployments_own_host() {
    let story = Story::begin().await;
    let (other, _) = story.world.host(2, 4096).await;
    let (state, id, at) = (&story.world.state, story.id, story.world.state.clock.now());
    let progress = || {
        let (service, revision) = (ServiceName::APP, Revision::FIRST);
        vec![Progress { id, service, revision, phase: Phase::Pulling, percent: Some(1) }]
    };
    show(state, other, progress(), vec![Checked { id, at }]).await.unwrap();
    assert_eq!((state.live.progress(id), state.live.last_checked(id)), (None, None));
    show(state, story.host, progress(), vec![Checked { id, at }]).await.unwrap();
    assert!(state.live.progress(id).is_some());
    assert_eq!(state.live.last_checked(id), Some(at));
    deployments::destroy(state, owner(1), id).await.unwrap();
    show(state, story.host, progress(), vec![]).await.unwrap();
    assert_eq!(state.live.progress(id), None, "nothing is kept of what is destroyed");
}

#[tokio::test]
async fn a_deploy_waiting_for_its_host_reports_it() {
    let mut story = Story::begin().await;
    let (state, host) = (story.world.state.clone(), story.host);
    let since = state.clock.now();
    let write: Result<(), StoreError> =
        state.store.write(move |tables| tables.set_unreachable(host, since)).await;
    write.unwrap();
    let shown = deployments::status(&state, owner(1), story.id).await.unwrap();
    assert_eq!(shown.status.as_str(), "pending");
    assert_eq!(shown.waiting.unwrap().code, "host_unreachable");
    let error = shown.last_error.unwrap();
    let words = "the host container-host-1 has been out of reach since 2026-05-21T10";
    assert!(error.starts_with(words), "{error}");
    let whole = deployments::get(&state, owner(1), story.id).await.unwrap();
    assert_eq!(whole.deployment.last_error.unwrap(), error);
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    let shown = deployments::status(&state, owner(1), story.id).await.unwrap();
    assert_eq!(shown.last_error, None, "what is live waits for nothing");
}

#[tokio::test]
async fn a_stop_clears_an_earlier_failure() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    story.restart().await;
    story.report(status(story.id, 2, Phase::Failed, Some(1))).await;
    deployments::stop(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!(story.stored().await.failure, None);
}

#[rstest]
#[case::crashed(Phase::Starting, None, Status::Running)]
#[case::still_serves(Phase::Probing, Some(1), Status::Running)]
#[case::unhealthy_but_there(Phase::Live, Some(1), Status::Running)]
#[case::old_news(Phase::Stopped, None, Status::Running)]
#[tokio::test]
async fn the_serving_revision_decides_the_status(
    #[case] phase: Phase,
    #[case] serving: Option<u32>,
    #[case] expected: Status,
) {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    let d = story.report(status(story.id, 1, phase, serving)).await;
    assert_eq!(d.status(), expected);
}

#[tokio::test]
async fn an_automatic_rollback_is_made_current_and_audited_with_its_cause() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    let before = story.generation().await;
    let d = story.puts_back(2, 1).await;
    assert_eq!((d.status(), d.run, d.revision.get()), (Status::Running, RunState::Running, 1));
    assert_eq!(
        d.failure.map(|failure| failure.to_string()).as_deref(),
        Some("it ended 3 times within 40 s\nread its logs, then deploy a mended image")
    );
    assert_eq!(story.generation().await, before + 1, "the next document names it");
    assert_eq!(
        story.log().await,
        [
            "create completed",
            "deploy completed",
            "restart completed",
            "deploy completed",
            "rollback completed"
        ]
    );
    let details = story.details().await;
    assert_eq!(
        (&details["by"], &details["from"], &details["to"]),
        (&json!("guard"), &json!(2), &json!(1))
    );
    assert_eq!(details["cause"], "it ended 3 times within 40 s");
    // That it serves again is no success of the one that failed.
    let d = story.goes_live(1).await;
    assert!(d.failure.is_some());
    // A failed revision is neither a fallback nor chosen by a rollback.
    story.restart().await;
    assert_eq!(story.desired().await.auto_rollback.unwrap().fallback.revision.get(), 1);
}

#[rstest]
#[case::it_still_answers(Some(2), Health::Healthy)]
#[case::the_old_one_answers_already(Some(1), Health::Healthy)]
#[case::nothing_answers(None, Health::Unhealthy)]
#[tokio::test]
async fn the_deployment_stays_running_during_an_automatic_rollback(
    #[case] serving: Option<u32>,
    #[case] health: Health,
) {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    let serving = serving.map(Revision::new);
    let d = story.report(DeploymentStatus { serving, ..story.bad(2, 1) }).await;
    assert_eq!((d.status(), d.health), (Status::Running, Some(health)));
}

#[tokio::test]
async fn a_repeated_rollback_report_acts_once() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    story.puts_back(2, 1).await;
    let (generation, log) = (story.generation().await, story.log().await);
    // As after a restore, when a host repeats everything it knows.
    let d = story.puts_back(2, 1).await;
    assert_eq!(d.revision.get(), 1);
    story.goes_live(2).await;
    assert_eq!((story.generation().await, story.log().await), (generation, log));
}

#[tokio::test]
async fn a_rollback_report_may_be_the_first_about_its_revision() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    let d = story.puts_back(2, 1).await;
    assert_eq!((d.status(), d.revision.get()), (Status::Running, 1));
    assert_eq!(story.log().await[3..], ["deploy failed", "rollback completed"]);
    let shown = deployments::revisions(&story.world.state, owner(1), story.id).await.unwrap();
    assert!(shown.revisions[0].live_at.is_some(), "only what was live is put back");
}

#[tokio::test]
async fn a_late_rollback_report_still_excludes_its_revision_as_a_fallback() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    story.restart().await;
    assert_eq!(story.desired().await.auto_rollback.unwrap().fallback.revision.get(), 2);
    let d = story.puts_back(2, 1).await;
    assert_eq!((d.status(), d.revision.get(), d.failure), (Status::Deploying, 3, None));
    assert_eq!(story.log().await.last().unwrap(), "rollback completed");
    assert_eq!(story.desired().await.auto_rollback.unwrap().fallback.revision.get(), 1);
}

#[tokio::test]
async fn a_rollback_of_a_stopped_app_changes_only_the_revision() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    story.stop().await;
    let d = story.puts_back(2, 1).await;
    assert_eq!((d.status(), d.run, d.revision.get()), (Status::Stopped, RunState::Stopped, 1));
    assert_eq!(d.failure, None);
}

#[tokio::test]
async fn a_rollback_to_an_unknown_revision_keeps_the_current_one() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    let d = story.puts_back(1, 9).await;
    assert_eq!((d.status(), d.revision.get()), (Status::Running, 1));
    assert_eq!(story.log().await.last().unwrap(), "deploy failed");
    assert_eq!(story.desired().await.revision.get(), 1);
    // It repeats its claims; nothing new comes of it, and nothing is stopped.
    let (generation, log) = (story.generation().await, story.log().await);
    let d = story.report(DeploymentStatus { serving: None, ..story.bad(1, 9) }).await;
    assert_eq!((d.status(), d.run), (Status::Running, RunState::Running));
    assert_eq!((story.generation().await, story.log().await), (generation, log));
}

#[tokio::test]
async fn a_late_live_report_of_a_superseded_revision_still_counts() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.restart().await;
    assert_eq!(story.desired().await.auto_rollback.unwrap().fallback.revision.get(), 1);
    let d = story.goes_live(2).await;
    assert_eq!((d.status(), d.revision.get()), (Status::Deploying, 3));
    assert_eq!(story.desired().await.auto_rollback.unwrap().fallback.revision.get(), 2);
}

#[tokio::test]
async fn a_failure_long_after_the_deploy_gets_its_own_log_entry() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    let d = story.report(status(story.id, 1, Phase::Failed, None)).await;
    assert_eq!(d.status(), Status::Stopped);
    assert_eq!(story.log().await, ["create completed", "deploy completed", "deploy failed"]);
}

#[tokio::test]
async fn fm_67_only_one_automatic_rollback_per_revision_is_accepted() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    assert_eq!(story.puts_back(2, 1).await.revision.get(), 1);
    // Once the other way, since the first one had not failed before; and no more.
    story.puts_back(1, 2).await;
    let (generation, log) = (story.generation().await, story.log().await);
    let current = story.stored().await.revision;
    for turn in 0..20 {
        let (from, to) = if turn % 2 == 0 { (2, 1) } else { (1, 2) };
        story.puts_back(from, to).await;
        // The same through the revision it claims to serve.
        story.report(status(story.id, from, Phase::Failed, Some(to))).await;
    }
    assert_eq!(story.log().await, log);
    assert_eq!((story.generation().await, story.stored().await.revision), (generation, current));
}

#[tokio::test]
async fn a_long_host_status_is_truncated() {
    let story = Story::begin().await;
    let (state, host) = (&story.world.state, story.host);
    let kept = async || {
        let read = state.store.read(move |tables| tables.host(host)).await;
        read.map_err(|error: StoreError| error).unwrap().unwrap().status.unwrap()
    };
    let long = HostStatus { warnings: vec!["x".repeat(10_000); 1000], ..kept().await };
    let body = ReportBody::Host(long);
    let report = Report { seq: 1, at: story.world.clock_now(), body };
    commit(state, host, vec![report]).await.unwrap();
    let warnings = kept().await.warnings;
    assert!(!warnings.is_empty() && warnings.concat().len() < 32 * 1024, "{}", warnings.len());
}

#[tokio::test]
async fn fm_67_a_host_cannot_inflate_revision_numbers() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    for made_up in [10_002, u32::MAX] {
        let d = story.report(status(story.id, 1, Phase::Live, Some(made_up))).await;
        assert_eq!((d.status(), d.serving), (Status::Running, None), "{made_up}");
    }
    story.restart().await;
    assert_eq!(story.stored().await.revision, Revision::new(2));
    // A host may know some more revisions than a restored database.
    story.report(status(story.id, 2, Phase::Live, Some(40))).await;
    story.restart().await;
    assert_eq!(story.stored().await.revision, Revision::new(41));
    // As an earlier version stored it.
    let database = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    database.execute("UPDATE deployments SET serving = ?1", [u32::MAX]).unwrap();
    story.restart().await;
    assert_eq!(story.stored().await.revision, Revision::new(42));
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.execute("UPDATE revisions SET number = ?1 WHERE number = 42", [u32::MAX]).unwrap();
    let refused = deployments::restart(&story.world.state, owner(1), story.id).await;
    assert!(refused.is_err(), "no number is used twice");
}

/// The digests of a revision's services, as stored.
async fn digests(
    story: &Story,
    number: u32,
) -> Vec<(String, Option<buddo_shared::model::image::Digest>)> {
    let (id, number) = (story.id, Revision::new(number));
    let read = story.world.state.store.read(move |tables| tables.revision(id, number));
    let revision = read.await.map_err(|error: StoreError| error).unwrap().unwrap();
    revision.services.iter().map(|s| (s.name.to_string(), s.digest.clone())).collect()
}

#[tokio::test]
async fn each_service_keeps_the_bytes_that_its_host_found_in_every_revision_that_has_it() {
    let mut story = Story::begin().await;
    services::deploy(&story.world.state, story.id, &["cache", "db"]).await;
    let told = vec![
        service("db", 2, Some(digest(4))),
        service("app", 1, Some(digest(3))),
        // Of content that the revision does not have.
        service("cache", 1, Some(digest(5))),
    ];
    let live = status(story.id, 2, Phase::Live, Some(2));
    let d = story.report(DeploymentStatus { services: told, ..live }).await;
    assert_eq!(d.status(), Status::Running);
    let named =
        |all: [(&str, Option<u32>); 3]| all.map(|(name, n)| (name.to_owned(), n.map(digest)));
    let expected = named([("app", Some(3)), ("cache", None), ("db", Some(4))]);
    assert_eq!(digests(&story, 2).await, expected);
    assert_eq!(digests(&story, 1).await, expected[..1], "the app is that of revision 1");
    // A revision whose images are not all known cannot come back, so it is no fallback.
    story.restart().await;
    assert_eq!(story.desired().await.auto_rollback, None);
    let cache = vec![service("cache", 2, Some(digest(5)))];
    let live = status(story.id, 2, Phase::Live, Some(2));
    story.report(DeploymentStatus { services: cache, ..live }).await;
    let host = story.host;
    let bumped = story.world.state.store.write(move |tables| tables.bump_generation(host)).await;
    bumped.map_err(|error: StoreError| error).unwrap();
    let fallback = story.desired().await.auto_rollback.unwrap().fallback;
    assert_eq!((fallback.revision.get(), fallback.services.iter().count()), (2, 3));
}

/// The app of revision 1 was live with the services of revision 2 last.
#[tokio::test]
async fn content_that_serves_belongs_to_the_newest_revision_that_had_it_live() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    services::deploy(&story.world.state, story.id, &["db"]).await;
    story.report(status(story.id, 2, Phase::Live, Some(2))).await;
    // Its fallback's images are not known, so its document has none.
    story.restart().await;
    assert_eq!(story.desired().await.auto_rollback, None);
    let d = story.report(status(story.id, 3, Phase::Failed, Some(1))).await;
    assert_eq!((d.revision.get(), d.serving), (2, Some(Revision::new(2))));
}

#[tokio::test]
async fn the_container_shown_is_the_public_services_first() {
    let mut story = Story::begin().await;
    services::deploy(&story.world.state, story.id, &["db"]).await;
    let mut app = story::in_container("app", 1, "the-second");
    let mut first = app.replicas[0].clone();
    app.replicas[0].replica = ReplicaIndex::new(1);
    first.container = Some("the-first".to_owned());
    app.replicas.push(first);
    let told = vec![story::in_container("db", 2, "of-db"), app];
    let live = status(story.id, 2, Phase::Live, Some(2));
    let d = story.report(DeploymentStatus { services: told, ..live.clone() }).await;
    assert_eq!(d.container_name, "the-first");
    // One that says nothing of it leaves the name as it was.
    let d = story.report(DeploymentStatus { services: vec![], ..live }).await;
    assert_eq!(d.container_name, "the-first");
}

#[tokio::test]
async fn fm_67_services_that_do_not_exist_are_ignored_and_told_once() {
    let mut story = Story::begin().await;
    let names: Vec<String> = (0..report::MAX_SERVICES).map(|n| format!("s{n}")).collect();
    let made_up = |_: u32| {
        let one = |name: &String| {
            let mut service = story::in_container(name, u32::MAX, "x");
            service.replicas = vec![service.replicas[0].clone(); report::MAX_REPLICAS];
            ServiceStatus { digest: Some(digest(1)), ..service }
        };
        names.iter().map(one).collect::<Vec<_>>()
    };
    let before = story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    let (log, _guard) = heard();
    let (state, host, at) = (story.world.state.clone(), story.host, story.world.clock_now());
    let mut complaints = Complaints::default();
    for seq in 10..20 {
        let live = status(story.id, 1, Phase::Live, Some(1));
        let body = DeploymentStatus { services: made_up(seq), ..live };
        let report = Report { seq: seq.into(), at, body: ReportBody::Deployment(body) };
        super::commit(&state, host, vec![report], &mut complaints).await.unwrap();
    }
    assert_eq!(story.stored().await, before, "what it says of the deployment is taken");
    assert_eq!(digests(&story, 1).await, [("app".to_owned(), None)]);
    let text = log.text();
    let said = |level: &str| {
        text.lines()
            .filter(|line| line.contains(level) && line.contains("unknown services"))
            .count()
    };
    assert_eq!((said("WARN"), said("DEBUG")), (1, 9), "once a session: {text}");
    // What an earlier revision had may still be there, and is no reason to complain.
    services::deploy(&state, story.id, &["db"]).await;
    services::deploy(&state, story.id, &[]).await;
    let leaving = vec![service("app", 1, None), service("db", 2, None)];
    let body = DeploymentStatus { services: leaving, ..status(story.id, 3, Phase::Live, Some(3)) };
    let report = Report { seq: 30, at, body: ReportBody::Deployment(body) };
    super::commit(&state, host, vec![report], &mut Complaints::default()).await.unwrap();
    assert_eq!(log.text(), text);
}

#[tokio::test]
async fn progress_is_that_of_services_that_the_deployment_has() {
    let story = Story::begin().await;
    let (state, id) = (&story.world.state, story.id);
    services::deploy(state, id, &["db"]).await;
    let said = |name: &str, phase, percent| Progress {
        id,
        service: name.parse().unwrap(),
        revision: Revision::new(2),
        phase,
        percent,
    };
    let progress = vec![
        said("app", Phase::Starting, None),
        said("made-up", Phase::Accepted, None),
        said("db", Phase::Pulling, Some(7)),
    ];
    show(state, story.host, progress, vec![]).await.unwrap();
    let shown = deployments::status(state, owner(1), id).await.unwrap().progress.unwrap();
    assert_eq!((shown.phase, shown.percent), (Phase::Pulling, Some(7)), "what is furthest behind");
}
