//! Failed requests from Caddy's log, read only while auto rollback watches.
//!
//! ```text
//! reconcile ── want(names, while watched)  ──► read task ── each 2 s, or more often while much is
//!     ▲                                             │        written ──► Proxy::failed_requests
//!     └──── wake, when it changed, each 2 s ────────┴──► seen()
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::failed_requests::{FailedRequests, Names};
use crate::ports::Proxy;

/// Between two looks at the log, and between two wake-ups for what was found.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks while much is written: Caddy keeps two files of 1 MiB.
const SOON: Duration = Duration::from_millis(200);
/// More bytes than this in one look count as much.
const MUCH: u64 = 128 * 1024;

#[derive(Debug, Clone, Default)]
struct Seen {
    log: Arc<FailedRequests>,
    trouble: Option<String>,
}

/// The log of one [`Proxy`]. Clones share all.
pub struct ProxyErrors<X> {
    proxy: Arc<X>,
    wanted: watch::Sender<Option<Names>>,
    seen: watch::Sender<Seen>,
    wake: Arc<Notify>,
}

impl<X> Clone for ProxyErrors<X> {
    fn clone(&self) -> Self {
        Self {
            proxy: Arc::clone(&self.proxy),
            wanted: self.wanted.clone(),
            seen: self.seen.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<X: Proxy> ProxyErrors<X> {
    /// Nothing is read yet; `wake` is notified when the log changed.
    pub fn new(proxy: Arc<X>, wake: Arc<Notify>) -> Self {
        Self { proxy, wanted: watch::Sender::new(None), seen: watch::Sender::default(), wake }
    }

    /// Whose failed requests are wanted; `None`: nobody's.
    pub fn want(&self, names: Option<Names>) {
        self.wanted.send_if_modified(|old| {
            let same = match (&*old, &names) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            *old = names;
            !same
        });
    }

    /// The last reading; empty while nobody wants it.
    pub fn seen(&self) -> Arc<FailedRequests> {
        Arc::clone(&self.seen.borrow().log)
    }

    /// Why the log cannot be read, or not completely, for the host's administrator.
    pub fn warning(&self) -> Option<String> {
        let seen = self.seen.borrow();
        if let Some(trouble) = &seen.trouble {
            return Some(format!(
                "Caddy's error log cannot be read, so automatic rollbacks do not see \
                 failed requests: {trouble}"
            ));
        }
        let lost: Duration = seen.log.gaps.iter().map(|gap| gap.within(gap.from, gap.until)).sum();
        // Without the amount: each different text is another report, written to disk and sent.
        (!lost.is_zero()).then(|| {
            "Caddy wrote errors faster than they could be read: some of the last minutes are not \
             counted, and automatic rollbacks are decided by the rest"
                .to_owned()
        })
    }

    /// Reads until it is dropped.
    pub async fn run(&self) {
        let mut wanted = self.wanted.subscribe();
        loop {
            // The sender lives in `self`.
            let _ = wanted.wait_for(Option::is_some).await;
            self.follow(&mut wanted).await;
            self.proxy.forget_failed_requests();
            self.seen.send_modify(|seen| seen.log = Arc::default());
        }
    }

    /// Reads until nobody wants it any more.
    async fn follow(&self, wanted: &mut watch::Receiver<Option<Names>>) {
        let mut told: Option<Instant> = None;
        loop {
            let Some(names) = wanted.borrow_and_update().clone() else { return };
            let result = self.proxy.failed_requests(&names).await;
            let much = result.as_ref().is_ok_and(|reading| reading.bytes >= MUCH);
            // A flood wakes the loop no more often than a trickle.
            if told.is_none_or(|told| told.elapsed() >= LOOK) || result.is_err() {
                told = Some(Instant::now());
                self.tell(result.map(|reading| reading.requests));
            }
            let pause = if much { SOON } else { LOOK };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wanted.wait_for(Option::is_none) => return,
            }
        }
    }

    fn tell(&self, result: std::io::Result<FailedRequests>) {
        let news = self.seen.send_if_modified(|seen| match result {
            Ok(log) => {
                let news = seen.trouble.take().is_some() || *seen.log != log;
                seen.log = Arc::new(log);
                news
            }
            Err(error) => {
                let trouble = Some(error.to_string());
                let news = seen.trouble != trouble;
                *seen = Seen { log: Arc::default(), trouble };
                news
            }
        });
        if news {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::ports::{ProxyError, Reading, RefusedRoute, RouteFiles};

    /// How often it was read, how often forgotten, and how much each look finds.
    #[derive(Default)]
    struct Edge(AtomicUsize, AtomicUsize, AtomicU64);

    impl Proxy for Edge {
        async fn apply(&self, _: &RouteFiles) -> Result<Vec<RefusedRoute>, ProxyError> {
            Ok(Vec::new())
        }

        async fn warm(&self, _: &str) -> Result<(), ProxyError> {
            Ok(())
        }

        async fn failed_requests(&self, _: &Names) -> std::io::Result<Reading> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err(std::io::ErrorKind::PermissionDenied.into()),
                n => {
                    let mut requests = FailedRequests::default();
                    requests.add(format!("look-{}", n / 2), Timestamp::UNIX_EPOCH);
                    Ok(Reading { requests, bytes: self.2.load(Ordering::SeqCst) })
                }
            }
        }

        fn forget_failed_requests(&self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_log_is_polled_only_on_demand_and_only_changes_are_reported() {
        let (edge, wake) = (Arc::new(Edge::default()), Arc::new(Notify::new()));
        let errors = ProxyErrors::new(Arc::clone(&edge), Arc::clone(&wake));
        let runs = errors.clone();
        let task = tokio::spawn(async move { runs.run().await });
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(edge.0.load(Ordering::SeqCst), 0, "nobody wants it, so nobody looks");

        errors.want(Some(Names::default()));
        wake.notified().await;
        assert!(errors.warning().is_some_and(|w| w.contains("permission denied")));
        for look in ["look-0", "look-1", "look-2"] {
            wake.notified().await;
            assert!(errors.seen().counts.contains_key(look), "{look}");
        }
        assert_eq!(errors.warning(), None);
        // Two looks find the same: the second of them wakes nobody.
        assert_eq!(edge.0.load(Ordering::SeqCst), 5);
        errors.want(None);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(edge.0.load(Ordering::SeqCst) <= 6);
        assert_eq!(*errors.seen(), FailedRequests::default(), "it is not kept either");
        assert_eq!(edge.1.load(Ordering::SeqCst), 1);
        task.abort();
    }

    /// Read often, so that no file is missed; reported as rarely as ever.
    #[tokio::test(start_paused = true)]
    async fn fm_60_a_flood_is_read_often_but_reported_at_the_usual_rate() {
        let (edge, wake) = (Arc::new(Edge::default()), Arc::new(Notify::new()));
        edge.2.store(MUCH, Ordering::SeqCst);
        let errors = ProxyErrors::new(Arc::clone(&edge), Arc::clone(&wake));
        let runs = errors.clone();
        let task = tokio::spawn(async move { runs.run().await });
        errors.want(Some(Names::default()));
        let (begun, mut woken) = (Instant::now(), 0);
        while tokio::time::timeout_at(begun + LOOK * 10, wake.notified()).await.is_ok() {
            woken += 1;
        }
        assert!((8..=12).contains(&woken), "woken {woken} times");
        assert!(edge.0.load(Ordering::SeqCst) > 80, "{:?}", edge.0);
        task.abort();
    }

    #[test]
    fn fm_60_uncounted_failures_are_reported_once() {
        let errors = ProxyErrors::new(Arc::new(Edge::default()), Arc::new(Notify::new()));
        let mut log = FailedRequests::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        log.lost(at(1_000), at(1_007));
        errors.tell(Ok(log));
        let warning = errors.warning();
        assert!(warning.as_ref().is_some_and(|warning| warning.contains("are not counted")));
        // An ongoing flood is reported once.
        let mut log = FailedRequests::default();
        log.lost(at(1_000), at(1_090));
        errors.tell(Ok(log));
        assert_eq!(errors.warning(), warning);
    }
}
