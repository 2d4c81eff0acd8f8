//! From levels to reports: each change is persisted once, and kept until acknowledged.
//!
//! ```text
//! reconcile ── set(levels) ──► pending ──► writer task ──► store ──► changed ──► server
//!                                             (diff against what was last reported)
//! ```
//!
//! The writer never holds up the reconciler; while it writes, newer levels replace pending ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_runtime::backoff::Failures;
use buddo_runtime::clock::Clock;
use buddo_shared::host_wire::report::{
    DeploymentStatus, Frame, Phase, ReplicaStatus, Report, ReportBody, ServiceStatus,
};
use jiff::Timestamp;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::sleep_until;

use crate::adapters::store::{Entry, Store, StoreError};
use crate::model::retries;
use crate::ports::Outbox;
use crate::process::metrics::Metrics;

/// How many frames a slow reader of progress may lag behind.
const FRAMES: usize = 256;
/// How many reports are shown to people on the host.
const RECENT: usize = 256;

/// No jitter: one writer on one disk.
const TOGETHER: f64 = 0.0;

/// Subject of the host's own status.
pub const HOST: &str = "host";

#[derive(Debug)]
struct Shared {
    store: Store,
    pending: Mutex<BTreeMap<String, Entry>>,
    wake: Notify,
    changed: watch::Sender<u64>,
    frames: broadcast::Sender<Frame>,
    recent: Mutex<VecDeque<Report>>,
    metrics: Metrics,
    /// All levels are to be reported once more.
    again: AtomicBool,
}

/// Takes levels in and gives reports out. Clones share all state.
#[derive(Debug, Clone)]
pub struct Status(Arc<Shared>);

impl Status {
    /// Reports go to `store`.
    pub fn new(store: Store) -> Self {
        Self::counted(store, Metrics::default())
    }

    /// Reports go to `store`, and revisions that were given up are counted.
    pub fn counted(store: Store, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            store,
            pending: Mutex::default(),
            wake: Notify::new(),
            changed: watch::Sender::new(0),
            frames: broadcast::Sender::new(FRAMES),
            recent: Mutex::default(),
            metrics,
            again: AtomicBool::new(false),
        }))
    }

    /// Sets the current levels. Cheap; unchanged ones are not written.
    pub fn set(&self, levels: impl IntoIterator<Item = Entry>) {
        let mut pending = self.pending();
        let before = pending.len();
        for entry in levels {
            pending.insert(entry.subject.clone(), entry);
        }
        if before < pending.len() || before > 0 {
            self.0.wake.notify_one();
        }
    }

    /// Sends to current listeners only; not kept.
    pub fn send(&self, frame: Frame) {
        // Having no listener is not an error.
        let _ = self.0.frames.send(frame);
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was reported since the agent started, oldest first, bounded.
    pub fn recent(&self) -> Vec<Report> {
        let recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }

    fn remember(&self, entries: &[Entry], last: u64, at: Timestamp) {
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for (body, behind) in entries.iter().map(|e| e.body.clone()).zip((0..entries.len()).rev()) {
            let behind = u64::try_from(behind).unwrap_or_default();
            recent.push_back(Report { seq: last.saturating_sub(behind), at, body });
        }
        let excess = recent.len().saturating_sub(RECENT);
        recent.drain(..excess);
    }

    fn keep_for_later(&self, entries: Vec<Entry>) {
        let mut pending = self.pending();
        for entry in entries {
            // A level set meanwhile is newer.
            pending.entry(entry.subject.clone()).or_insert(entry);
        }
    }

    fn count(&self, old: Option<&ReportBody>, new: &ReportBody) {
        let failed = |body: &ReportBody| match body {
            ReportBody::Deployment(status) if status.phase == Phase::Failed => {
                Some((status.revision, status.failure.as_ref()?.code.clone()))
            }
            _ => None,
        };
        if let Some((revision, code)) = failed(new)
            && old.and_then(failed).is_none_or(|(before, _)| before != revision)
        {
            self.0.metrics.given_up(&code);
        }
    }

    /// Writes reports until it is dropped, or the database is closed.
    pub async fn write<K: Clock>(&self, clock: &K) -> Result<(), StoreError> {
        let failures = Failures::default();
        let mut reported = loop {
            match self.0.store.reported().await {
                Ok(reported) => break reported,
                Err(error @ StoreError::Closed) => return Err(error),
                Err(error) => {
                    not_written(&error);
                    sleep_until(failures.next(retries::HOST, TOGETHER)).await;
                }
            }
        };
        loop {
            self.0.wake.notified().await;
            let mut pending = std::mem::take(&mut *self.pending());
            let again = self.0.again.swap(false, Ordering::Relaxed);
            if again {
                for (subject, body) in &reported {
                    pending.entry(subject.clone()).or_insert_with(|| Entry {
                        subject: subject.clone(),
                        body: body.clone(),
                        last: false,
                    });
                }
            }
            let is_changed = |entry: &Entry| {
                again || !reported.get(&entry.subject).is_some_and(|old| same(old, &entry.body))
            };
            let fresh: Vec<Entry> = pending.into_values().filter(is_changed).collect();
            if fresh.is_empty() {
                continue;
            }
            let at = clock.now();
            match self.0.store.report(fresh.clone(), at).await {
                Ok(seq) => {
                    failures.end();
                    self.remember(&fresh, seq, at);
                    for entry in fresh {
                        log_change(&entry.body);
                        self.count(reported.get(&entry.subject), &entry.body);
                        if entry.last {
                            reported.remove(&entry.subject);
                        } else {
                            reported.insert(entry.subject, entry.body);
                        }
                    }
                    self.0.changed.send_replace(seq);
                }
                Err(error) => {
                    not_written(&error);
                    // It may be on disk all the same: treat whatever comes next as a change.
                    for entry in &fresh {
                        reported.remove(&entry.subject);
                    }
                    self.keep_for_later(fresh);
                    self.0.again.fetch_or(again, Ordering::Relaxed);
                    sleep_until(failures.next(retries::HOST, TOGETHER)).await;
                    self.0.wake.notify_one();
                }
            }
        }
    }
}

/// Logs each deployment's changes on its host.
fn log_change(body: &ReportBody) {
    match body {
        ReportBody::Deployment(status) => tracing::info!(
            deployment = %status.id,
            revision = %status.revision,
            phase = ?status.phase,
            serving = status.serving.map(tracing::field::display),
            failure = status.failure.as_ref().map(|failure| failure.code.as_str()),
            "a deployment changed"
        ),
        ReportBody::Removed { id } => tracing::info!(deployment = %id, "a deployment is gone"),
        ReportBody::Host(_) => {}
    }
}

fn not_written(error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error, "reports are kept in memory until they can be written");
}

/// Whether two levels are equal: a different time of the last probe is not a change.
fn same(old: &ReportBody, new: &ReportBody) -> bool {
    match (old, new) {
        (ReportBody::Deployment(old), ReportBody::Deployment(new)) => level(old) == level(new),
        _ => old == new,
    }
}

/// A status without its times.
fn level(status: &DeploymentStatus) -> impl PartialEq {
    let DeploymentStatus {
        id,
        revision,
        phase,
        serving,
        health,
        checked_at: _,
        failure,
        rolled_back_to,
        restarts,
        services,
    } = status;
    let services: Vec<_> = services.iter().map(level_of_service).collect();
    (id, revision, phase, serving, health, failure, rolled_back_to, restarts, services)
}

fn level_of_service(status: &ServiceStatus) -> impl PartialEq {
    let ServiceStatus { name, revision, phase, digest, failure, replicas } = status;
    let replicas: Vec<_> = replicas.iter().map(level_of_replica).collect();
    (name, revision, phase, digest, failure, replicas)
}

fn level_of_replica(status: &ReplicaStatus) -> impl PartialEq {
    let ReplicaStatus { replica, serving, health, checked_at: _, container, restarts } = status;
    (replica, serving, health, container, restarts)
}

impl Outbox for Status {
    async fn resume(&self, after: u64) -> std::io::Result<()> {
        let acknowledged = self.0.store.acknowledged().await.map_err(std::io::Error::other)?;
        if after < acknowledged {
            tracing::warn!(
                after,
                acknowledged,
                "the coordinator lost reports that it had acknowledged; reporting everything again"
            );
            self.0.again.store(true, Ordering::Relaxed);
            self.0.wake.notify_one();
        }
        Ok(())
    }

    async fn after(&self, seq: u64, limit: usize) -> std::io::Result<Vec<Report>> {
        self.0.store.reports_after(seq, limit).await.map_err(std::io::Error::other)
    }

    async fn acknowledge(&self, seq: u64) -> std::io::Result<()> {
        self.0.store.acknowledge(seq).await.map_err(std::io::Error::other)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn ephemeral(&self) -> broadcast::Receiver<Frame> {
        self.0.frames.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use buddo_runtime::clock::SystemClock;
    use buddo_shared::host_wire::report::Health;
    use buddo_shared::model::id::{DeploymentId, Revision};
    use buddo_shared::model::workload::{ReplicaIndex, ServiceName};
    use uuid::Uuid;

    use super::*;

    fn level(n: u128, phase: Phase, checked: i64) -> Entry {
        let id = DeploymentId::new(Uuid::from_u128(n));
        let checked_at = Some(Timestamp::from_second(checked).unwrap());
        let replica = ReplicaStatus {
            replica: ReplicaIndex::FIRST,
            serving: None,
            health: Health::Healthy,
            checked_at,
            container: None,
            restarts: 0,
        };
        let service = ServiceStatus {
            name: ServiceName::APP,
            revision: Revision::FIRST,
            phase,
            digest: None,
            failure: None,
            replicas: vec![replica],
        };
        Entry {
            subject: id.to_string(),
            body: ReportBody::Deployment(DeploymentStatus {
                phase,
                checked_at,
                services: vec![service],
                ..crate::testing::status(id)
            }),
            last: false,
        }
    }

    /// Sets the levels, waits for one write, and returns how many reports were ever written.
    async fn written(path: &std::path::Path, levels: Vec<Entry>) -> u64 {
        let status = Status::new(Store::open(path, 0).unwrap());
        let mut changed = status.changed();
        status.set(levels);
        let writing = status.write(&SystemClock);
        tokio::select! {
            _ = writing => unreachable!("the writer does not end"),
            seen = changed.changed() => seen.unwrap(),
        }
        *changed.borrow()
    }

    #[tokio::test]
    async fn only_changes_are_reported_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let seq = written(&path, vec![level(1, Phase::Live, 1), level(2, Phase::Live, 1)]).await;
        assert_eq!(seq, 2);
        // A different time of the last probe is not a change, a different phase is.
        let levels = vec![level(1, Phase::Live, 9), level(2, Phase::Stopped, 9)];
        assert_eq!(written(&path, levels).await, 3);
    }

    /// Captures the log.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_deployment_change_is_logged_with_its_id() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        let _log = tracing::subscriber::set_default(subscriber);
        let dir = tempfile::tempdir().unwrap();
        let write = async |name| {
            written(&dir.path().join(name), vec![level(1, Phase::Live, 1)]).await;
        };
        // A callsite first reached by another test, which does not listen, is disabled for all
        // (tokio-rs/tracing issue 3611) until it is evaluated again.
        write("first.db").await;
        tracing::callsite::rebuild_interest_cache();
        write("agent.db").await;
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains("a deployment changed")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["deployment"], "00000000-0000-0000-0000-000000000001");
        assert_eq!(line["revision"], "1");
        assert_eq!(line["phase"], "Live");
    }

    #[tokio::test]
    async fn fm_20_a_coordinator_that_lost_reports_gets_the_full_status_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let levels = vec![level(1, Phase::Live, 1), level(2, Phase::Stopped, 1)];
        assert_eq!(written(&path, levels).await, 2);
        let status = Status::new(Store::open(&path, 0).unwrap());
        let said = async |after| {
            let reports = status.after(after, 10).await.unwrap();
            reports.into_iter().map(|report| report.seq).collect::<Vec<_>>()
        };
        status.acknowledge(2).await.unwrap();
        let mut changed = status.changed();
        let writing = status.write(&SystemClock);
        tokio::pin!(writing);
        // It has committed all, as when it only reconnects: nothing is reported twice.
        status.resume(2).await.unwrap();
        assert!(said(2).await.is_empty());
        // It was restored to a backup where it had committed only the first.
        status.resume(1).await.unwrap();
        let reported = async {
            tokio::select! {
                _ = &mut writing => unreachable!("the writer does not end"),
                seen = changed.changed() => seen.unwrap(),
            }
        };
        let reported = tokio::time::timeout(std::time::Duration::from_secs(20), reported).await;
        assert!(reported.is_ok(), "what it lost is not reported again");
        assert_eq!(said(1).await, [3, 4]);
    }
}
