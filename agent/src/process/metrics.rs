//! The agent's counters. What is scraped is in `host::metrics`; whoever does something counts here.
//!
//! Passed explicitly to whoever counts: there is no global recorder, so two agents in one test do
//! not share numbers. Nothing runs between scrapes, and histograms have fixed buckets: an agent
//! that is not scraped spends nothing and does not grow.
//!
//! No label ever names a deployment, an image or a host: `explain` and the log cover single apps,
//! metrics all of them. So the number of series is bounded by this program's own words.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::process::disk_space::Space;

/// One label with one of this program's words.
pub(crate) type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
/// A label whose words other parts of this program choose.
type Word = [(&'static str, String); 1];

/// From an idle pass (about a millisecond) to one that waits for a deadline.
const PASS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0];
/// From a Podman call to a pull.
const STEP: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0];

fn step_histogram() -> Histogram {
    Histogram::new(STEP)
}

/// All counters.
#[derive(Debug)]
struct Counts {
    passes: Histogram,
    steps: Family<Two, Counter>,
    step_seconds: Family<One, Histogram, fn() -> Histogram>,
    failures: Family<Word, Counter>,
    given_up: Family<Word, Counter>,
    calls: Family<Two, Counter>,
    pulls: Family<One, Counter>,
    probes: Family<One, Counter>,
    reloads: Counter,
    refused_routes: Counter,
    collected: Counter,
    collected_bytes: Counter,
    oom_kills: Counter,
    pids_refused: Counter,
    throttled_periods: Counter,
    throttled_us: AtomicU64,
    disk_free: Family<Word, Gauge>,
    disk_used: Family<Word, Gauge>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            passes: Histogram::new(PASS),
            steps: Family::default(),
            step_seconds: Family::new_with_constructor(step_histogram),
            failures: Family::default(),
            given_up: Family::default(),
            calls: Family::default(),
            pulls: Family::default(),
            probes: Family::default(),
            reloads: Counter::default(),
            refused_routes: Counter::default(),
            collected: Counter::default(),
            collected_bytes: Counter::default(),
            oom_kills: Counter::default(),
            pids_refused: Counter::default(),
            throttled_periods: Counter::default(),
            throttled_us: AtomicU64::default(),
            disk_free: Family::default(),
            disk_used: Family::default(),
        }
    }
}

/// The agent's counters. Clones share all state.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counts>);

impl Metrics {
    /// The registry of all metric names.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let c = &self.0;
        registry.register_with_unit(
            "reconcile_duration",
            "Passes of the reconciler, and how long they took",
            Unit::Seconds,
            c.passes.clone(),
        );
        registry.register("steps", "Steps on containers, secrets and images", c.steps.clone());
        registry.register_with_unit(
            "step_duration",
            "How long steps took",
            Unit::Seconds,
            c.step_seconds.clone(),
        );
        registry.register(
            "step_failures",
            "Steps that failed, by the code of the failure",
            c.failures.clone(),
        );
        registry.register(
            "revisions_failed",
            "Revisions that were given up, by the code of the failure",
            c.given_up.clone(),
        );
        registry.register("podman_calls", "Calls of Podman's API", c.calls.clone());
        registry.register("pulls", "Pulls from registries", c.pulls.clone());
        registry.register("probes", "Probes of containers", c.probes.clone());
        registry.register("caddy_reloads", "Configurations that Caddy took", c.reloads.clone());
        registry.register(
            "caddy_refused_routes",
            "Route files that Caddy would not load",
            c.refused_routes.clone(),
        );
        registry.register("images_collected", "Images that were removed", c.collected.clone());
        registry.register_with_unit(
            "images_collected",
            "Their size, layers that others share included",
            Unit::Bytes,
            c.collected_bytes.clone(),
        );
        registry.register(
            "app_oom_kills",
            "Processes of apps that were killed because their container had reached its memory limit",
            c.oom_kills.clone(),
        );
        registry.register(
            "app_refused_processes",
            "Processes and threads that apps could not start because of their limit",
            c.pids_refused.clone(),
        );
        registry.register(
            "app_throttled_periods",
            "Periods in which a container used up its CPU limit before their end",
            c.throttled_periods.clone(),
        );
        let throttled: Counter<f64, AtomicU64> = Counter::default();
        let waited = Duration::from_micros(c.throttled_us.load(Ordering::Relaxed));
        throttled.inc_by(waited.as_secs_f64());
        registry.register_with_unit(
            "app_throttled",
            "For how long threads of apps waited because of their CPU limit, all added up",
            Unit::Seconds,
            throttled,
        );
        registry.register_with_unit(
            "disk_free",
            "What may still be used of the file system at this path",
            Unit::Bytes,
            c.disk_free.clone(),
        );
        registry.register_with_unit(
            "disk_used",
            "What is used of the file system at this path",
            Unit::Bytes,
            c.disk_used.clone(),
        );
    }

    /// The reconciler completed a pass.
    pub fn passed(&self, took: Duration) {
        self.0.passes.observe(took.as_secs_f64());
    }

    /// A step on a container, a secret or an image ended; `failure` is the code of what went wrong.
    pub fn stepped(&self, step: &'static str, failure: Option<String>, took: Duration) {
        let outcome = if failure.is_some() { "failed" } else { "done" };
        self.0.steps.get_or_create(&[("step", step), ("outcome", outcome)]).inc();
        self.0.step_seconds.get_or_create(&[("step", step)]).observe(took.as_secs_f64());
        if let Some(code) = failure {
            self.0.failures.get_or_create(&[("code", code)]).inc();
        }
    }

    /// A revision was given up.
    pub fn given_up(&self, code: &str) {
        self.0.given_up.get_or_create(&[("code", code.to_owned())]).inc();
    }

    /// Podman answered a call, or did not.
    pub fn called(&self, operation: &'static str, answered: bool) {
        let outcome = if answered { "answered" } else { "unavailable" };
        self.0.calls.get_or_create(&[("operation", operation), ("outcome", outcome)]).inc();
    }

    pub fn pulled(&self, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.0.pulls.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A container was probed.
    pub fn probed(&self, healthy: bool) {
        let outcome = if healthy { "healthy" } else { "unhealthy" };
        self.0.probes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Caddy took a configuration, except for this many of its route files.
    pub fn reloaded(&self, refused: usize) {
        self.0.reloads.inc();
        self.0.refused_routes.inc_by(u64::try_from(refused).unwrap_or(u64::MAX));
    }

    /// An image of this many bytes was removed.
    pub fn collected(&self, bytes: u64) {
        self.0.collected.inc();
        self.0.collected_bytes.inc_by(bytes);
    }

    /// The kernel killed so many processes of apps for memory, and refused them so many more.
    pub fn limited(&self, oom_kills: u64, pids_refused: u64) {
        self.0.oom_kills.inc_by(oom_kills);
        self.0.pids_refused.inc_by(pids_refused);
    }

    /// Apps used up their CPU limit in so many periods, and waited for so many microseconds.
    pub fn throttled(&self, periods: u64, waited_us: u64) {
        self.0.throttled_periods.inc_by(periods);
        self.0.throttled_us.fetch_add(waited_us, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn oom_kills(&self) -> u64 {
        self.0.oom_kills.get()
    }

    /// How full file systems are.
    pub fn disk(&self, spaces: &[(PathBuf, Space)]) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        for (place, space) in spaces {
            let label = [("path", place.display().to_string())];
            self.0.disk_free.get_or_create(&label).set(signed(space.free));
            self.0.disk_used.get_or_create(&label).set(signed(space.used));
        }
    }
}
