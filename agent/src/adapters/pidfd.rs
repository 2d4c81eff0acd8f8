//! The kernel's handle of a process (`pidfd_open(2)`): it becomes readable when the process ends.

use std::pin::Pin;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::container::Process;
use crate::ports::ProcessExits;

#[derive(Debug, Clone, Copy)]
pub struct Pidfds;

impl ProcessExits for Pidfds {
    /// The PID may have been reused by now: the hint then never comes, or comes for nothing.
    /// Neither does harm.
    fn exit(&self, process: &Process) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let pid = Pid::from_raw(process.pid.try_into().ok()?)?;
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => {
                #[expect(
                    deprecated,
                    reason = "it is unsound for what does not own its descriptor \
                                               (tokio pull 8587), and an `OwnedFd` does; its \
                                               successor is an `unsafe fn`"
                )]
                let handle = AsyncFd::with_interest(handle, Interest::READABLE).ok()?;
                Some(Box::pin(async move {
                    let _ = handle.readable().await;
                }))
            }
            // It was listed a moment ago.
            Err(Errno::SRCH) => Some(Box::pin(std::future::ready(()))),
            Err(error) => {
                tracing::debug!(%error, pid = process.pid, "cannot watch a process for its exit");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn detects_the_end_of_a_real_process() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process { container: "a".to_owned(), pid: child.id() };
        let mut exit = Pidfds.exit(&process).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), &mut exit).await;
        assert!(early.is_err(), "it runs");
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(20), exit).await.unwrap();
        child.wait().unwrap();
        // Gone, and reaped.
        let exit = Pidfds.exit(&process).unwrap();
        tokio::time::timeout(Duration::from_secs(20), exit).await.unwrap();
    }
}
