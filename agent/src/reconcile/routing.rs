//! Keeps Caddy's route files and first certificates as desired, without blocking the reconciler.
//!
//! ```text
//! reconcile ── want(files, hosts) ──► apply task ──► Proxy::apply ─┐
//!                  │                  (again after trouble, and     ├─► settled(host)? ──► reconcile
//!                  └────────────────► warm tasks ──► Proxy::warm ──┘    each minute)
//! ```
//!
//! Nothing here decides who serves: a healthy app gets its visitors from the live table at once.
//! This only reports that its route and certificate are ready, or that they are late and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::report::Failure;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::model::retries;
use crate::model::retries::Jitter;
use crate::ports::{Proxy, RouteFiles};

/// A certificate later than this no longer holds back the phase 'live'.
const PATIENCE: Duration = Duration::from_secs(10);
/// Concurrent first handshakes, of each kind.
const HANDSHAKES: usize = 4;
/// Hosts that were served before the agent came back have their first handshakes spread over this
/// time: each takes the agent and Caddy some milliseconds, and a thousand at once would delay apps
/// that wait for them.
const SPREAD: Duration = Duration::from_secs(30);
/// How often route files are compared with what Caddy runs: it may have been restarted.
const RECHECK: Duration = Duration::from_mins(1);

/// Whether visitors can reach the app over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Route and certificate are ready.
    Yes,
    /// Not yet; look again when woken, at the latest then.
    NotYet(Instant),
    /// The app is reachable or will be, but not fully: why.
    Warning(Failure),
}

#[derive(Debug)]
struct Warmth {
    since: Instant,
    done: bool,
    /// It was live before the agent came back: nobody waits for its certificate.
    lazy: bool,
    problem: Option<String>,
    /// Makes the handshakes until one succeeds or the host is no longer wanted. Dropped then: its
    /// handle makes the runtime keep all of a task's memory, for each host name.
    task: Option<AbortOnDropHandle<()>>,
}

/// Why route files are not in force.
#[derive(Debug)]
struct RouteTrouble {
    /// For an app's operator.
    message: String,
    /// With its causes, which may name files and sockets: for the host's administrator.
    causes: String,
}

#[derive(Debug, Default)]
struct State {
    wanted: Arc<RouteFiles>,
    applied: Option<Arc<RouteFiles>>,
    refused: BTreeMap<String, String>,
    trouble: Option<RouteTrouble>,
    hosts: BTreeMap<String, Warmth>,
    /// Hosts were wanted before.
    begun: bool,
}

/// Drives one [`Proxy`]. Clones share all state.
pub struct Routes<X> {
    proxy: Arc<X>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    wake: Arc<Notify>,
    /// Separate limits for handshakes that an app's first visitors wait for, and for others: a
    /// domain whose certificate cannot be obtained takes a long time to fail.
    eager: Arc<Semaphore>,
    lazy: Arc<Semaphore>,
    jitter: Jitter,
}

impl<X> Clone for Routes<X> {
    fn clone(&self) -> Self {
        Self {
            proxy: Arc::clone(&self.proxy),
            state: Arc::clone(&self.state),
            changed: Arc::clone(&self.changed),
            wake: Arc::clone(&self.wake),
            eager: Arc::clone(&self.eager),
            lazy: Arc::clone(&self.lazy),
            jitter: Arc::clone(&self.jitter),
        }
    }
}

impl<X: Proxy> Routes<X> {
    /// Nothing wanted yet; `wake` is notified when something settles.
    pub fn new(proxy: Arc<X>, jitter: Jitter, wake: Arc<Notify>) -> Self {
        Self {
            proxy,
            state: Arc::default(),
            changed: Arc::default(),
            wake,
            eager: Arc::new(Semaphore::new(HANDSHAKES)),
            lazy: Arc::new(Semaphore::new(HANDSHAKES)),
            jitter,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes these the wanted files, and gets a certificate for each of `hosts`. A host with `true`
    /// is not waited for: it was served before the agent came back, or is a second name.
    pub fn want(&self, files: &RouteFiles, hosts: BTreeMap<String, bool>, now: Instant) {
        let mut state = self.state();
        if *state.wanted != *files {
            state.wanted = Arc::new(files.clone());
            self.changed.notify_one();
        }
        state.hosts.retain(|host, _| hosts.contains_key(host));
        let first = !state.begun;
        state.begun |= !hosts.is_empty();
        for (host, lazy) in hosts {
            state.hosts.entry(host).or_insert_with_key(|host| {
                let spread = if first && lazy { SPREAD } else { Duration::ZERO };
                let task = tokio::spawn(self.clone().warm(host.clone(), lazy, spread));
                let task = Some(AbortOnDropHandle::new(task));
                Warmth { since: now, done: false, lazy, problem: None, task }
            });
        }
    }

    /// Whether the routes in `files` and the certificate of `host` are ready.
    pub fn settled(&self, host: &str, files: &BTreeSet<String>, now: Instant) -> Settled {
        let state = self.state();
        if let Some((file, message)) = state.refused.iter().find(|(f, _)| files.contains(*f)) {
            return Settled::Warning(refused(file, message));
        }
        let applied = state.applied.as_ref().is_some_and(|applied| {
            files.iter().all(|file| applied.get(file) == state.wanted.get(file))
        });
        let Some(warmth) = state.hosts.get(host) else { return Settled::NotYet(now + PATIENCE) };
        if applied && (warmth.done || warmth.lazy) {
            return Settled::Yes;
        }
        let due = warmth.since + PATIENCE;
        if now < due {
            return Settled::NotYet(due);
        }
        let trouble = state.trouble.as_ref().filter(|_| !applied).map(|trouble| &trouble.message);
        let reason = trouble.or(warmth.problem.as_ref());
        Settled::Warning(late(host, reason.map(String::as_str)))
    }

    /// Warnings for the administrator.
    pub fn warnings(&self) -> Vec<String> {
        let state = self.state();
        let trouble = state.trouble.as_ref().map(|trouble| format!("routes: {}", trouble.causes));
        let refused = state
            .refused
            .iter()
            .map(|(file, message)| format!("the route file {file} is not in force: {message}"));
        trouble.into_iter().chain(refused).chain(self.proxy.warnings()).collect()
    }

    /// The desired files, for display.
    pub fn files(&self) -> RouteFiles {
        self.state().wanted.as_ref().clone()
    }

    /// Applies route files until it is dropped.
    pub async fn run(&self) {
        let mut tries = 0;
        let mut wait = RECHECK;
        loop {
            let calm = tries == 0;
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = self.proxy.disturbed(), if calm => {}
                () = tokio::time::sleep(wait) => {}
            }
            let files = Arc::clone(&self.state().wanted);
            if files.is_empty() {
                wait = RECHECK;
                continue;
            }
            let warned = self.proxy.warnings();
            match self.proxy.apply(&files).await {
                Ok(refused) => {
                    tries = 0;
                    wait = RECHECK.mul_f64(0.9 + (self.jitter)() / 5.0);
                    let mut state = self.state();
                    let refused = refused.into_iter().map(|r| (r.file, r.message)).collect();
                    let is_new = state.applied.as_ref() != Some(&files)
                        || state.refused != refused
                        || state.trouble.is_some()
                        || self.proxy.warnings() != warned;
                    state.refused = refused;
                    state.applied = Some(files);
                    state.trouble = None;
                    if is_new {
                        self.wake.notify_one();
                    }
                }
                Err(error) => {
                    wait = retries::TROUBLE.delay(tries, (self.jitter)());
                    tries = tries.saturating_add(1);
                    let reason = &error as &dyn std::error::Error;
                    tracing::warn!(reason, ?wait, "route files are not in force yet");
                    let causes = chain(&error);
                    self.state().trouble = Some(RouteTrouble { message: error.message, causes });
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Makes the first handshake for `host`, at some time within `spread`, and retries until it
    /// succeeds or is no longer wanted.
    async fn warm(self, host: String, lazy: bool, spread: Duration) {
        let permits = if lazy { &self.lazy } else { &self.eager };
        tokio::time::sleep(spread.mul_f64((self.jitter)())).await;
        let mut tries = 0;
        loop {
            let result = {
                let Ok(_permit) = permits.acquire().await else { return };
                // Boxed: a handshake is large, and most of the time none is under way.
                Box::pin(self.proxy.warm(&host)).await
            };
            {
                let mut state = self.state();
                let Some(warmth) = state.hosts.get_mut(&host) else { return };
                match result {
                    Ok(()) => {
                        warmth.done = true;
                        warmth.problem = None;
                        warmth.task.take().map(AbortOnDropHandle::detach);
                        if !lazy {
                            self.wake.notify_one();
                        }
                        return;
                    }
                    Err(error) => {
                        let reason = &error as &dyn std::error::Error;
                        tracing::warn!(%host, reason, "no certificate is served yet");
                        warmth.problem = Some(error.message);
                    }
                }
            }
            let wait = match tries {
                0..3 => retries::CERTIFICATE_AT_FIRST.delay(tries, 0.0),
                _ => retries::CERTIFICATE.delay(tries - 3, (self.jitter)()),
            };
            tries += 1;
            tokio::time::sleep(wait).await;
        }
    }
}

fn refused(file: &str, message: &str) -> Failure {
    Failure {
        code: "route_refused".to_owned(),
        cause: format!("Caddy refused the route file {file}: {message}"),
        fix: "check the deployment's custom domains; its subdomain is served".to_owned(),
    }
}

fn late(host: &str, reason: Option<&str>) -> Failure {
    let reason = reason.unwrap_or("Caddy has not answered");
    Failure {
        code: "certificate_pending".to_owned(),
        cause: format!("no certificate for {host} yet: {reason}"),
        fix:
            "wait, the agent keeps trying; if it lasts, the host's administrator checks Caddy's log"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ports::{ProxyError, RefusedRoute};

    /// Caddy is away, or `bad.example` gets no certificate.
    #[derive(Default)]
    struct Edge {
        away: bool,
        handshakes: AtomicUsize,
    }

    impl Proxy for Edge {
        async fn apply(&self, _: &RouteFiles) -> Result<Vec<RefusedRoute>, ProxyError> {
            if self.away {
                let source = Some(Box::from("/run/caddy-admin.sock: connection refused"));
                return Err(ProxyError { message: "Caddy does not answer".to_owned(), source });
            }
            Ok(Vec::new())
        }

        async fn warm(&self, host: &str) -> Result<(), ProxyError> {
            // As large as a TLS connection.
            let connection = [0_u8; 4_096];
            tokio::task::yield_now().await;
            std::hint::black_box(&connection);
            self.handshakes.fetch_add(1, Ordering::SeqCst);
            if self.away || host == "bad.example" {
                let message = "the handshake failed".to_owned();
                return Err(ProxyError { message, source: None });
            }
            Ok(())
        }
    }

    fn routes(edge: Edge) -> (Routes<Edge>, Arc<Edge>, Arc<Notify>) {
        let (edge, wake) = (Arc::new(edge), Arc::new(Notify::new()));
        let routes = Routes::new(Arc::clone(&edge), Arc::new(|| 0.5), Arc::clone(&wake));
        let runs = routes.clone();
        tokio::spawn(async move { runs.run().await });
        (routes, edge, wake)
    }

    fn files() -> RouteFiles {
        [("zone.caddy".to_owned(), "zone".to_owned())].into()
    }

    fn hosts(hosts: &[(&str, bool)]) -> BTreeMap<String, bool> {
        hosts.iter().map(|(host, lazy)| ((*host).to_owned(), *lazy)).collect()
    }

    async fn until(routes: &Routes<Edge>, wake: &Notify, good: impl Fn(Settled) -> bool) {
        let zone: BTreeSet<String> = ["zone.caddy".to_owned()].into();
        let waiting = async {
            while !good(routes.settled("a.example", &zone, Instant::now())) {
                // What settles wakes; what is late does not.
                let _ = tokio::time::timeout(Duration::from_secs(1), wake.notified()).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("it settles");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_name_without_a_certificate_does_not_hold_the_app_back() {
        let (routes, _, wake) = routes(Edge::default());
        let wanted = hosts(&[("a.example", false), ("bad.example", true)]);
        routes.want(&files(), wanted, Instant::now());
        until(&routes, &wake, |settled| settled == Settled::Yes).await;
    }

    #[tokio::test(start_paused = true)]
    async fn operators_see_the_failure_and_administrators_its_cause() {
        let (routes, _, wake) = routes(Edge { away: true, ..Edge::default() });
        routes.want(&files(), hosts(&[("a.example", false)]), Instant::now());
        let late = |settled| {
            matches!(settled, Settled::Warning(failure)
            if failure.cause == "no certificate for a.example yet: Caddy does not answer")
        };
        until(&routes, &wake, late).await;
        let warnings = routes.warnings().join("\n");
        assert!(warnings.contains("/run/caddy-admin.sock: connection refused"), "{warnings}");
    }

    /// A host may have thousands of names.
    #[tokio::test(start_paused = true)]
    async fn a_handshake_task_is_small_and_ends_on_success() {
        let (routes, _, wake) = routes(Edge::default());
        let size = size_of_val(&routes.clone().warm("a.example".to_owned(), false, Duration::ZERO));
        assert!(size < 1_024, "{size} bytes");
        routes.want(
            &files(),
            hosts(&[("a.example", false), ("bad.example", true)]),
            Instant::now(),
        );
        until(&routes, &wake, |settled| settled == Settled::Yes).await;
        let state = routes.state();
        assert!(
            state.hosts["a.example"].task.is_none() && state.hosts["bad.example"].task.is_some()
        );
    }

    /// An agent that comes back to a thousand apps.
    #[tokio::test(start_paused = true)]
    async fn handshakes_for_known_names_are_spread_over_time() {
        let (routes, edge, wake) = routes(Edge::default());
        let made = || edge.handshakes.load(Ordering::SeqCst);
        let mut served = hosts(&[("a.example", true), ("b.example", true)]);
        routes.want(&files(), served.clone(), Instant::now());
        until(&routes, &wake, |settled| settled == Settled::Yes).await;
        assert_eq!(made(), 0, "it is live without");
        let unasked = tokio::time::timeout(SPREAD, wake.notified()).await;
        assert_eq!((unasked.is_err(), made()), (true, 2), "nobody waits for them");
        // What is new since then is not put off.
        served.insert("c.example".to_owned(), true);
        routes.want(&files(), served, Instant::now());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(made(), 3);
    }

    /// Issuers count failures: a host that comes and goes does not multiply its handshakes.
    #[tokio::test(start_paused = true)]
    async fn failing_handshakes_back_off_and_run_one_at_a_time() {
        let (routes, edge, _) = routes(Edge::default());
        for _ in 0..20 {
            routes.want(&files(), hosts(&[("bad.example", true)]), Instant::now());
            tokio::time::sleep(Duration::from_millis(10)).await;
            routes.want(&files(), hosts(&[]), Instant::now());
        }
        routes.want(&files(), hosts(&[("bad.example", true)]), Instant::now());
        let before = edge.handshakes.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_hours(1)).await;
        let tried = edge.handshakes.load(Ordering::SeqCst) - before;
        assert!((8..20).contains(&tried), "{tried} in an hour");
    }
}
