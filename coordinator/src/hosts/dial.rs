//! Paces the dialling of hosts: spread over time, and with a limit on parallel handshakes.
//!
//! A thousand hosts whose sessions ended together (a restart, a network that comes back) must not
//! cost a thousand handshakes in one second: all other requests would wait for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

use crate::crypto::random::{self, Random};

pub(super) const PERMITS: usize = 32;
/// How much each host adds to the time over which the first dials are spread.
const SHARE: Duration = Duration::from_millis(5);
/// Maximum of that time.
const LONGEST: Duration = Duration::from_secs(10);

pub(super) struct Dial {
    permits: Semaphore,
    random: Arc<dyn Random>,
}

impl Dial {
    pub(super) fn new(random: Arc<dyn Random>) -> Self {
        Self { permits: Semaphore::new(PERMITS), random }
    }

    /// Waits for a random moment, spread over the `hosts` that begin together.
    pub(super) async fn spread(&self, hosts: usize) {
        let window = SHARE.saturating_mul(u32::try_from(hosts).unwrap_or(u32::MAX)).min(LONGEST);
        let draw = u32::from_be_bytes(random::bytes::<4>(&*self.random));
        sleep(window.mul_f64(f64::from(draw) / f64::from(u32::MAX))).await;
    }

    /// Waits for a permit, held until the host is connected.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; if it were, dialling without a permit would do no harm.
        self.permits.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::crypto::random::SystemRandom;

    #[tokio::test(start_paused = true)]
    async fn fm_08_dialling_1000_hosts_is_spread_over_time_and_bounded() {
        let dial = Arc::new(Dial::new(Arc::new(SystemRandom)));
        let began = Instant::now();
        let log = Arc::new(Mutex::new((Vec::new(), 0_usize, 0_usize)));
        let hosts = (0..1_000).map(|_| {
            let (dial, log) = (Arc::clone(&dial), Arc::clone(&log));
            tokio::spawn(async move {
                dial.spread(1_000).await;
                let _permit = dial.permit().await;
                {
                    let (times, now, most) = &mut *log.lock().unwrap();
                    times.push(began.elapsed());
                    *now += 1;
                    *most = (*most).max(*now);
                }
                // A handshake over a slow network.
                sleep(Duration::from_millis(50)).await;
                log.lock().unwrap().1 -= 1;
            })
        });
        futures_util::future::join_all(hosts).await;
        let (times, _, most) = &*log.lock().unwrap();
        assert!(*most <= PERMITS, "{most} at once");
        assert!(times.iter().all(|at| *at <= LONGEST));
        let busiest = (0..10)
            .map(|second| times.iter().filter(|at| at.as_secs() == second).count())
            .max()
            .unwrap();
        assert!(busiest < 350, "{busiest} in one second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_host_is_dialled_at_once() {
        let began = Instant::now();
        Dial::new(Arc::new(SystemRandom)).spread(1).await;
        assert!(began.elapsed() <= SHARE + Duration::from_millis(1));
    }
}
