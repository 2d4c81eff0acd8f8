//! Waiting on conditions: the only way that tests wait.

use std::time::{Duration, Instant};

use anyhow::Context as _;

const PAUSE: Duration = Duration::from_millis(20);

/// Polls until `condition` yields a value. After `patience` it fails with `what` was waited for
/// and why the last poll did not yield.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + patience;
    loop {
        let last = match tokio::time::timeout_at(end.into(), condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the last look did not end in time"),
        };
        if Instant::now() >= end {
            return Err(last).with_context(|| format!("waited {patience:?} in vain for {what}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_true_or_times_out_with_the_last_error() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            anyhow::ensure!(looks >= 3, "only {looks}");
            Ok(looks)
        });
        assert_eq!(value.await.unwrap(), 3);
        let never = until("never", Duration::ZERO, async || -> anyhow::Result<()> {
            anyhow::bail!("it is not so")
        });
        let error = format!("{:#}", never.await.unwrap_err());
        assert!(error.contains("never") && error.contains("it is not so"), "{error}");
    }
}
