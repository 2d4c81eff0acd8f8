use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::SystemClock;
use tokio::sync::watch;

use super::*;
use crate::adapters::store::Store;
use crate::config::{Config, Environment};
use crate::model::document::Document;
use crate::model::snapshot::HostSnapshot;
use crate::ports::EventFeed;
use crate::process::disk_space::Space;
use crate::testing::{document, snapshot};

/// A scrape of these, on a disk that never changes.
pub(crate) fn scrape(
    store: Store,
    snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    document: watch::Receiver<Option<Arc<Document>>>,
) -> Scrape {
    let environment = Environment {
        home: Some("/home/a".into()),
        runtime_dir: Some("/run/a".into()),
        ..Environment::default()
    };
    let rules = Config::parse("", &environment).unwrap().disk;
    let measure = |_: &Path| Ok(Space { used: 3, free: 7 });
    let events = EventFeed {
        named: Arc::default(),
        hints: watch::channel(0).1,
        lines: watch::channel(5).1,
        healthy: watch::channel(true).1,
        renew: Arc::default(),
    };
    Scrape {
        metrics: Metrics::default(),
        snapshot,
        document,
        store,
        events: Some(events),
        disk_space: DiskSpace::new(rules, "/state".into(), Arc::new(measure)),
        clock: Arc::new(SystemClock),
    }
}

/// Dashboards and alerts depend on names, help and labels: a change here breaks them.
#[tokio::test]
async fn metrics_match_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("agent.db"), 0).unwrap();
    let mut snapshot = snapshot(true);
    snapshot.host.warnings = vec!["w".to_owned()];
    let document = document(Vec::new());
    let scrape = scrape(
        store,
        watch::channel(Some(Arc::new(snapshot))).1,
        watch::channel(Some(Arc::new(document))).1,
    );
    let metrics = &scrape.metrics;
    metrics.passed(Duration::from_millis(3));
    metrics.stepped("create", None, Duration::from_millis(30));
    metrics.stepped("image", Some("disk_full".to_owned()), Duration::from_millis(30));
    metrics.given_up("never_healthy");
    metrics.called("list containers", true);
    metrics.called("list containers", false);
    metrics.pulled(true);
    metrics.probed(true);
    metrics.probed(false);
    metrics.reloaded(2);
    metrics.collected(9);
    metrics.limited(2, 3);
    metrics.throttled(4, 1_500_000);
    let text = scrape.text().await.unwrap();
    assert!(!text.contains("buddo-x"), "no label tells of one app");
    // Labels come in no fixed order; buckets are the constants.
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("_bucket{")).collect();
    lines.sort_unstable();
    insta::with_settings!({filters => vec![
        // What differs from process to process.
        (r"(?m)^(process_\S+|buddo_agent_document_age_seconds) \S+$", "$1 [number]"),
    ]}, { insta::assert_snapshot!(lines.join("\n")) });
}
