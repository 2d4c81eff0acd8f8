//! What Caddy wrote down of failed requests, read while a guard is open and at no other time.
//!
//! ```text
//! reconcile ── want(a guard is open) ──► read task ── each 2 s ──► Proxy::failed_requests
//!     ▲                                      │
//!     └───────── wake, when it changed ──────┴──► seen()
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::ports::{FailedRequests, Proxy};

/// Between two looks at the log.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Default)]
struct Seen {
    log: Arc<FailedRequests>,
    trouble: Option<String>,
}

/// The log of one [`Proxy`]. Clones share all.
pub struct Errors<X> {
    proxy: Arc<X>,
    open: watch::Sender<bool>,
    seen: watch::Sender<Seen>,
    wake: Arc<Notify>,
}

impl<X> Clone for Errors<X> {
    fn clone(&self) -> Self {
        Self {
            proxy: Arc::clone(&self.proxy),
            open: self.open.clone(),
            seen: self.seen.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<X: Proxy> Errors<X> {
    /// Nothing is read yet; `wake` is notified when the log changed.
    pub fn new(proxy: Arc<X>, wake: Arc<Notify>) -> Self {
        Self { proxy, open: watch::Sender::new(false), seen: watch::Sender::default(), wake }
    }

    /// Whether anyone wants to know.
    pub fn want(&self, open: bool) {
        self.open.send_if_modified(|old| std::mem::replace(old, open) != open);
    }

    /// What was read last; empty while nobody wanted it.
    pub fn seen(&self) -> Arc<FailedRequests> {
        Arc::clone(&self.seen.borrow().log)
    }

    /// Why the log cannot be read, for the host's administrator.
    pub fn warning(&self) -> Option<String> {
        let trouble = self.seen.borrow().trouble.clone()?;
        Some(format!(
            "Caddy's log of errors cannot be read, so guards do not see failed requests: {trouble}"
        ))
    }

    /// Reads until it is dropped.
    pub async fn run(&self) {
        let mut open = self.open.subscribe();
        loop {
            // The sender lives in `self`.
            let _ = open.wait_for(|open| *open).await;
            let result = self.proxy.failed_requests().await;
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
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = open.wait_for(|open| !*open) => self.forget(),
            }
        }
    }

    fn forget(&self) {
        self.seen.send_modify(|seen| seen.log = Arc::default());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ports::{ProxyError, RefusedRoute, RouteFiles};

    #[derive(Default)]
    struct Edge(AtomicUsize);

    impl Proxy for Edge {
        async fn apply(&self, _: &RouteFiles) -> Result<Vec<RefusedRoute>, ProxyError> {
            Ok(Vec::new())
        }

        async fn warm(&self, _: &str) -> Result<(), ProxyError> {
            Ok(())
        }

        async fn failed_requests(&self) -> std::io::Result<FailedRequests> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err(std::io::ErrorKind::PermissionDenied.into()),
                n => {
                    let began = [(format!("look-{}", n / 2), Vec::new())].into();
                    Ok(FailedRequests { began, known_since: None })
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_while_wanted_and_tells_only_news() {
        let (edge, wake) = (Arc::new(Edge::default()), Arc::new(Notify::new()));
        let errors = Errors::new(Arc::clone(&edge), Arc::clone(&wake));
        let runs = errors.clone();
        let task = tokio::spawn(async move { runs.run().await });
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(edge.0.load(Ordering::SeqCst), 0, "nobody wants it, so nobody looks");

        errors.want(true);
        wake.notified().await;
        assert!(errors.warning().is_some_and(|w| w.contains("permission denied")));
        for look in ["look-0", "look-1", "look-2"] {
            wake.notified().await;
            assert!(errors.seen().began.contains_key(look), "{look}");
        }
        assert_eq!(errors.warning(), None);
        // Two looks find the same: the second of them rings for nobody.
        assert_eq!(edge.0.load(Ordering::SeqCst), 5);
        errors.want(false);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(edge.0.load(Ordering::SeqCst) <= 6);
        assert_eq!(*errors.seen(), FailedRequests::default(), "it is not kept either");
        task.abort();
    }
}
