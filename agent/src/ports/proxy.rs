//! Caddy.

use std::collections::BTreeMap;

use crate::model::failed_requests::{FailedRequests, Names};

/// Caddy, as far as the agent needs it.
pub trait Proxy: Send + Sync + 'static {
    /// Puts these route files in force. Loads first and writes after; does nothing if they are in
    /// force already. Only a file that does not load is refused: the answer names it, the others
    /// are in force. Reloads are coalesced. A file among them that is not ours is set aside, and
    /// named, too.
    fn apply(
        &self,
        routes: &RouteFiles,
    ) -> impl Future<Output = Result<Vec<RefusedRoute>, ProxyError>> + Send;
    /// A TLS handshake for `host` at the edge, so that its certificate exists before the first
    /// visitor. Success means that a certificate for `host` was served.
    fn warm(&self, host: &str) -> impl Future<Output = Result<(), ProxyError>> + Send;
    /// Ends when a cheap check shows that something other than the last applied files may be in
    /// force, so that applying again is worthwhile. Never ends where there is no cheap check.
    fn disturbed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
    /// Warnings for the administrator about what is in force, beside refused routes.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// Requests to `names` that were answered with a server error, as far back as they are logged,
    /// followed from one call to the next. A proxy that logs none knows of none.
    fn failed_requests(
        &self,
        _names: &Names,
    ) -> impl Future<Output = std::io::Result<Reading>> + Send {
        std::future::ready(Ok(Reading::default()))
    }
    /// Failed requests are no longer needed.
    fn forget_failed_requests(&self) {}
}

/// What is known of failed requests after a read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    pub requests: FailedRequests,
    /// New bytes in this read: if many, more may follow.
    pub bytes: u64,
}

/// Caddy did not do as asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProxyError {
    /// What was tried and what to look at.
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// File name (without folder) → text rendered from validated types.
pub type RouteFiles = BTreeMap<String, String>;

/// A route file that is not in force: Caddy would not load it, or it is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRoute {
    pub file: String,
    /// Why: Caddy's words, or what was done with it.
    pub message: String,
}
