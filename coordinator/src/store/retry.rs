//! Work that met a conflict runs again, a limited number of times.

use super::StoreError;
use crate::process::retries;

/// How often the work of one use case runs at most. Two writers that meet once seldom meet again
/// after waits of different lengths; work that meets a conflict five times is on rows that are too
/// busy, and its caller can wait longer than a transaction.
const MOST: u32 = 5;

/// How one run of a use case's work ended.
pub(super) enum Outcome<T, E, F> {
    /// Committed, or rolled back on its own error or one of the database.
    Ended(Result<T, E>),
    /// Rolled back because of a conflict: here is the work again.
    Conflict(F, StoreError),
}

impl<T, E: From<StoreError>, F> Outcome<T, E, F> {
    pub(super) fn failed(error: StoreError) -> Self {
        Self::Ended(Err(error.into()))
    }
}

/// Runs `work` by `run` until no conflict ends it, or there were enough.
pub(super) async fn until_settled<T, E, F, R>(mut work: F, run: impl Fn(F) -> R) -> Result<T, E>
where
    E: From<StoreError>,
    R: Future<Output = Outcome<T, E, F>>,
{
    let mut attempts = Attempts::default();
    loop {
        match run(work).await {
            Outcome::Ended(result) => return result,
            Outcome::Conflict(again, conflict) => {
                attempts.wait_after(&conflict).await?;
                work = again;
            }
        }
    }
}

/// The runs of one use case's work.
#[derive(Debug, Default)]
struct Attempts(u32);

impl Attempts {
    /// Waits before the next run; `Err`: there were enough.
    async fn wait_after(&mut self, conflict: &StoreError) -> Result<(), StoreError> {
        self.0 += 1;
        if self.0 >= MOST {
            tracing::warn!(error = %conflict, runs = self.0, "gave up on a transaction");
            return Err(StoreError::Busy);
        }
        tokio::time::sleep(retries::CONFLICT.delay(self.0 - 1, rand::random())).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_between_runs_and_gives_up() {
        let conflict = StoreError::conflict("commit")("on purpose");
        let (mut attempts, began) = (Attempts::default(), Instant::now());
        for _ in 1..MOST {
            let before = Instant::now();
            attempts.wait_after(&conflict).await.unwrap();
            assert!(before.elapsed() >= Duration::from_millis(2));
        }
        assert!(matches!(attempts.wait_after(&conflict).await, Err(StoreError::Busy)));
        assert!(began.elapsed() < Duration::from_millis(250), "{:?}", began.elapsed());
    }
}
