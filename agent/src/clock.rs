//! The one place that reads the system's wall clock.

use jiff::Timestamp;

use crate::ports::Clock;

/// The system's clock. Durations and deadlines never use it: it may jump.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one Clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Draws from 0..1, injected: spreads what would otherwise happen everywhere at once.
pub type Jitter = std::sync::Arc<dyn Fn() -> f64 + Send + Sync>;

/// The system's randomness.
pub fn system_jitter() -> Jitter {
    std::sync::Arc::new(rand::random::<f64>)
}
