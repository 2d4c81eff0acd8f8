//! Keeping Caddy's route files and first certificates as they shall be, off the reconciler's way.
//!
//! ```text
//! reconcile ── want(files, hosts) ──► apply task ──► Proxy::apply ─┐
//!                  │                  (again after trouble, and     ├─► settled(host)? ──► reconcile
//!                  └────────────────► warm tasks ──► Proxy::warm ──┘    each minute)
//! ```
//!
//! Nothing here decides who serves: a healthy app gets its visitors from the live table at once.
//! This only says when its route and certificate are there, or that they are late and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buddo_shared::report::Failure;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::clock::Jitter;
use crate::ports::{Proxy, RouteFiles};

/// A certificate later than this no longer holds the word 'live' back.
const PATIENCE: Duration = Duration::from_secs(10);
/// First handshakes at the same time.
const HANDSHAKES: usize = 4;
/// Route files are compared with what Caddy runs this often: it may have been restarted.
const RECHECK: Duration = Duration::from_mins(1);

/// Whether visitors over HTTPS find the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Route and certificate are there.
    Yes,
    /// Not yet; look again when told, at the latest then.
    NotYet(Instant),
    /// The app is reachable or will be, but not wholly: why.
    Warning(Failure),
}

#[derive(Debug)]
struct Warmth {
    since: Instant,
    done: bool,
    /// It was live before the agent came back: its certificate is not waited for.
    lazy: bool,
    problem: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    wanted: RouteFiles,
    applied: Option<RouteFiles>,
    refused: BTreeMap<String, String>,
    trouble: Option<(Instant, String)>,
    hosts: BTreeMap<String, Warmth>,
}

/// Drives one [`Proxy`]. Clones share all.
pub struct Routes<X> {
    proxy: Arc<X>,
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    /// The reconciler's bell.
    wake: Arc<Notify>,
    handshakes: Arc<Semaphore>,
    jitter: Jitter,
}

impl<X> Clone for Routes<X> {
    fn clone(&self) -> Self {
        Self {
            proxy: Arc::clone(&self.proxy),
            state: Arc::clone(&self.state),
            news: Arc::clone(&self.news),
            wake: Arc::clone(&self.wake),
            handshakes: Arc::clone(&self.handshakes),
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
            news: Arc::default(),
            wake,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            jitter,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes these the wanted files, and has a certificate for each of `hosts` made. A host with
    /// `true` was served before the agent came back.
    pub fn want(&self, files: RouteFiles, hosts: BTreeMap<String, bool>, now: Instant) {
        let mut fresh = Vec::new();
        {
            let mut state = self.state();
            if state.wanted != files {
                state.wanted = files;
                self.news.notify_one();
            }
            state.hosts.retain(|host, _| hosts.contains_key(host));
            for (host, lazy) in hosts {
                if !state.hosts.contains_key(&host) {
                    let warmth = Warmth { since: now, done: false, lazy, problem: None };
                    state.hosts.insert(host.clone(), warmth);
                    fresh.push(host);
                }
            }
        }
        for host in fresh {
            tokio::spawn(self.clone().warm(host));
        }
    }

    /// Whether the route in `files` and the certificate of `host` are there.
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
        let trouble = state.trouble.as_ref().filter(|_| !applied).map(|(_, message)| message);
        let reason = trouble.or(warmth.problem.as_ref());
        Settled::Warning(late(host, reason.map(String::as_str)))
    }

    /// What an administrator should know.
    pub fn warnings(&self) -> Vec<String> {
        let state = self.state();
        let trouble = state.trouble.as_ref().map(|(_, message)| format!("routes: {message}"));
        let refused = state
            .refused
            .iter()
            .map(|(file, message)| format!("Caddy refused the route file {file}: {message}"));
        trouble.into_iter().chain(refused).collect()
    }

    /// The files as they shall be, for people.
    pub fn files(&self) -> RouteFiles {
        self.state().wanted.clone()
    }

    /// Applies route files until it is dropped.
    pub async fn run(&self) {
        let mut tries = 0;
        let mut wait = RECHECK;
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let files = self.state().wanted.clone();
            if files.is_empty() {
                wait = RECHECK;
                continue;
            }
            match self.proxy.apply(&files).await {
                Ok(refused) => {
                    tries = 0;
                    wait = RECHECK.mul_f64(0.9 + (self.jitter)() / 5.0);
                    let mut state = self.state();
                    let first = state.applied.as_ref() != Some(&files);
                    state.refused = refused.into_iter().map(|r| (r.file, r.message)).collect();
                    state.applied = Some(files);
                    state.trouble = None;
                    if first {
                        self.wake.notify_one();
                    }
                }
                Err(error) => {
                    wait = Backoff::TROUBLE.delay(tries, (self.jitter)());
                    tries = tries.saturating_add(1);
                    let reason = &error as &dyn std::error::Error;
                    tracing::warn!(reason, ?wait, "route files are not in force yet");
                    let mut state = self.state();
                    let since = state.trouble.as_ref().map_or_else(Instant::now, |(at, _)| *at);
                    state.trouble = Some((since, error.message));
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Makes the first handshake for `host`, until it succeeds or is not wanted any more.
    async fn warm(self, host: String) {
        let mut tries = 0;
        loop {
            let result = {
                let Ok(_place) = self.handshakes.acquire().await else { return };
                self.proxy.warm(&host).await
            };
            {
                let mut state = self.state();
                let Some(warmth) = state.hosts.get_mut(&host) else { return };
                match result {
                    Ok(()) => {
                        warmth.done = true;
                        warmth.problem = None;
                        self.wake.notify_one();
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%host, reason = %error, "no certificate served yet");
                        warmth.problem = Some(error.message);
                    }
                }
            }
            // Soon at first: the route file or the table may be a moment late.
            let wait = match tries {
                0..3 => Duration::from_millis(100) * 2_u32.pow(tries),
                _ => Backoff::CRASH.delay(tries - 3, (self.jitter)()),
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
