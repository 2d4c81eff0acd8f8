//! The back-off for each kind of trouble, all in one place.

use std::time::Duration;

use buddo_runtime::backoff::Backoff;

/// A crashed container: 1 s, 2 s … 60 s.
pub const CRASH: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
/// Trouble with a registry or Podman: 0.5 s, 1 s … 30 s.
pub const TROUBLE: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// The host lacks something to create or start a container: 1 s, 2 s … 2 min. Its administrator has
/// to act, and each retry costs a host that is short already.
pub const SHORTAGE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(2));
/// Trouble on this host that clears soon if at all, such as its disk or the container list: 0.5 s,
/// 1 s … 5 s. Visitors may be waiting, so the cap is low.
pub const HOST: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
/// Podman's event stream: 0.1 s, 0.2 s … 5 s. Until it is open, changes are noticed late.
pub const EVENTS: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// A certificate that cannot be obtained: 1 s, 2 s … 15 min. Issuers count failures.
pub const CERTIFICATE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(15));
/// The first handshakes for a certificate: 0.1 s, 0.2 s, 0.4 s. The route file or the table may be a
/// moment late.
pub const CERTIFICATE_AT_FIRST: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
/// A renewal that the coordinator does not answer: 1 s, 2 s … 5 min.
pub const RENEWAL: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));

/// Draws from 0..1, injected: spreads what would otherwise happen everywhere at once.
pub type Jitter = std::sync::Arc<dyn Fn() -> f64 + Send + Sync>;

pub fn system_jitter() -> Jitter {
    std::sync::Arc::new(rand::random::<f64>)
}
