//! What a hostile app takes: memory, processor time, processes. Asked for by the web app's visitors.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MIB: usize = 1024 * 1024;
const MOST_MIB: u64 = 4_096;
const MOST_PROCESSES: u64 = 4_096;
const LONGEST: Duration = Duration::from_mins(1);
/// Twice as many as the machines of tests have processors.
const THREADS: usize = 4;

/// Writes to that much memory and keeps it.
pub(crate) async fn eat(mib: u64) -> &'static str {
    let eat = move || {
        for _ in 0..mib.min(MOST_MIB) {
            // Zeroes would take no memory before they are written to.
            std::mem::forget(vec![1_u8; MIB]);
        }
    };
    match tokio::task::spawn_blocking(eat).await {
        Ok(()) => "eaten\n",
        Err(_) => "not eaten\n",
    }
}

/// Computes on several threads for that long.
pub(crate) async fn burn(ms: u64) -> &'static str {
    let end = Instant::now() + Duration::from_millis(ms).min(LONGEST);
    let burn = move || {
        let mut value = 1_u64;
        while Instant::now() < end {
            for _ in 0..10_000 {
                value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005));
            }
        }
    };
    let threads = (0..THREADS).map(|_| tokio::task::spawn_blocking(burn));
    futures_util::future::join_all(threads).await;
    "burnt\n"
}

/// Starts processes until it has that many or is refused one; ends them after that long, even if the
/// visitor has left.
pub(crate) async fn spawn(count: u64, ms: u64) -> String {
    tokio::spawn(bomb(count, ms)).await.unwrap_or_default()
}

async fn bomb(count: u64, ms: u64) -> String {
    let start = move || {
        let mut children = Vec::new();
        for _ in 0..count.min(MOST_PROCESSES) {
            match sleeper() {
                Ok(child) => children.push(child),
                Err(error) => return (children, format!(", then {error}")),
            }
        }
        (children, String::new())
    };
    let (mut children, refused) = tokio::task::spawn_blocking(start).await.unwrap_or_default();
    let started = children.len();
    tokio::time::sleep(Duration::from_millis(ms).min(LONGEST)).await;
    for child in &mut children {
        let _ = child.kill();
    }
    for child in &mut children {
        let _ = child.wait();
    }
    format!("{started} processes{refused}\n")
}

/// This program under a name by which it does nothing; see `POSE_AS`.
fn sleeper() -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sleeper").env("POSE_AS", "sleeper");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn burns_for_as_long_as_asked() {
        let began = Instant::now();
        assert_eq!(burn(50).await, "burnt\n");
        assert!(began.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn eats_what_is_asked() {
        assert_eq!(eat(1).await, "eaten\n");
    }
}
