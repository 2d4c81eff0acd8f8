//! A budget of containers: Podman has a lock for each container, pod and volume, 2,048 in all by
//! default, and once they are used up nothing can be created or even replaced. So everything that
//! holds a lock counts, whoever created it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buddo_shared::host_wire::report::Failure;
use http::Method;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::transport::{Call, Transport};
use crate::ports::ContainersError;

/// Locks held by others are recounted when a create finds the count this old: a list of 1,000
/// containers takes Podman most of a second (4.3.1), and that create waits for it.
const STALE: Duration = Duration::from_mins(5);
/// The same when at most one in [`FEW`] of all locks is left.
const STALE_WHERE_FEW: Duration = Duration::from_secs(30);
const FEW: usize = 10;

/// What takes a lock each.
const CONTAINERS: &str = "containers/json?all=true";
const PODS: &str = "pods/json";
const VOLUMES: &str = "volumes/json";

/// How many locks may be held, and how many are. Clones share all state.
#[derive(Debug, Clone)]
pub(super) struct LockBudget {
    max: usize,
    known: Arc<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Our containers: as of the last list, plus one for each created since.
    ours: AtomicUsize,
    /// Everything else: other people's containers, pods, volumes.
    others: AtomicUsize,
    counted: Mutex<Option<Instant>>,
}

impl Default for LockBudget {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl LockBudget {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: Arc::default() }
    }

    /// This many containers are ours.
    pub(super) fn counted(&self, containers: usize) {
        self.known.ours.store(containers, Ordering::Relaxed);
    }

    /// One was created.
    pub(super) fn one_more(&self) {
        self.known.ours.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what Podman holds, unless that was done just now. Only a create asks for it: passes
    /// save two more lists each.
    ///
    /// An error: it does not even list its containers. The reason is reported only once, and is
    /// worth more than the create that would follow.
    pub(super) async fn look(&self, transport: &Transport) -> Result<(), ContainersError> {
        let mut counted = self.known.counted.lock().await;
        let stale = if self.left() <= self.max / FEW { STALE_WHERE_FEW } else { STALE };
        if counted.is_some_and(|at| at.elapsed() < stale) {
            return Ok(());
        }
        let containers = count(transport, CONTAINERS).await?;
        let beside = async { Ok(count(transport, PODS).await? + count(transport, VOLUMES).await?) };
        let beside = beside.await;
        // Also after a failure: the next create would wait as long and learn no more.
        *counted = Some(Instant::now());
        match beside {
            Ok(beside) => {
                let ours = self.known.ours.load(Ordering::Relaxed);
                let others = (containers + beside).saturating_sub(ours);
                self.known.others.store(others, Ordering::Relaxed);
            }
            // Podman has the last word anyway.
            Err(error) => {
                let error: ContainersError = error;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot count Podman's pods and volumes");
            }
        }
        Ok(())
    }

    /// One was removed: the next list may be a minute away.
    pub(super) fn one_less(&self) {
        let less = |known: usize| known.checked_sub(1);
        let _ = self.known.ours.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Free locks, as far as known.
    fn left(&self) -> usize {
        let ours = self.known.ours.load(Ordering::Relaxed);
        let others = self.known.others.load(Ordering::Relaxed);
        self.max.saturating_sub(ours.saturating_add(others))
    }

    /// Refuses when all are taken.
    pub(super) fn admit(&self) -> Result<(), ContainersError> {
        if self.left() > 0 {
            return Ok(());
        }
        let ours = self.known.ours.load(Ordering::Relaxed);
        let others = self.known.others.load(Ordering::Relaxed);
        Err(ContainersError::Full(none_left(ours, others)))
    }
}

/// How many of one kind there are.
async fn count(transport: &Transport, kind: &'static str) -> Result<usize, ContainersError> {
    let mut count = 0;
    let call = Call::libpod("count what Podman holds", Method::GET, kind);
    let one_more = |_| {
        count += 1;
        Ok(())
    };
    transport.list(call, &[], one_more).await?;
    Ok(count)
}

/// The failure when no lock is left for another container.
fn none_left(ours: usize, others: usize) -> Failure {
    let beside = match others {
        0 => String::new(),
        _ => format!(" and {others} containers, pods and volumes of others"),
    };
    Failure {
        code: "too_many_containers".to_owned(),
        cause: format!(
            "too many containers on this host: {ours} of apps{beside}, which is its limit"
        ),
        fix: "it is retried automatically; the host's administrator may remove what is not an \
              app's, raise `max_containers` together with Podman's `num_locks`, or move apps \
              elsewhere"
            .to_owned(),
    }
}

/// Podman's own refusal for lack of a lock, if `message` is one.
pub(super) fn no_lock_left(message: &str) -> Option<ContainersError> {
    let told = message.contains("exceeded num_locks") || message.contains("allocating lock");
    told.then(|| {
        ContainersError::Full(Failure {
            code: "too_many_containers".to_owned(),
            cause: "too many containers on this host: Podman has no lock left for another"
                .to_owned(),
            fix: "it is retried automatically; the host's administrator must remove containers, \
                  pods or volumes, or raise Podman's `num_locks`"
                .to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// A Podman that lists containers or nothing, and how often it was called.
    fn podman(folder: &std::path::Path) -> (Transport, Arc<AtomicUsize>) {
        let socket = folder.join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let served = Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                served.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 1_024];
                let read = stream.read(&mut request).await.unwrap();
                let lists = String::from_utf8_lossy(&request[..read]).contains("containers/json");
                let status = if lists { "200 OK" } else { "500 Internal Server Error" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
                     Content-Length: 2\r\nConnection: close\r\n\r\n[]"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Transport::new(socket), calls)
    }

    #[tokio::test]
    async fn fm_53_a_failed_count_is_not_repeated_at_each_create() {
        let folder = tempfile::tempdir().unwrap();
        let (transport, calls) = podman(folder.path());
        let budget = LockBudget::new(10);
        for _ in 0..3 {
            budget.look(&transport).await.unwrap();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2, "containers and pods, once");
    }

    /// Each count takes as long as Podman has containers.
    #[tokio::test]
    async fn fm_53_recounts_more_often_when_capacity_is_low() {
        let folder = tempfile::tempdir().unwrap();
        let (transport, calls) = podman(folder.path());
        for (ours, counts) in [(89, 1), (90, 2)] {
            let budget = LockBudget::new(100);
            budget.counted(ours);
            budget.look(&transport).await.unwrap();
            let mut counted = budget.known.counted.lock().await;
            *counted = counted.and_then(|at| at.checked_sub(STALE_WHERE_FEW));
            drop(counted);
            calls.store(0, Ordering::SeqCst);
            budget.look(&transport).await.unwrap();
            assert_eq!(calls.load(Ordering::SeqCst) / 2 + 1, counts, "{ours} of 100");
        }
    }

    #[test]
    fn fm_25_the_container_budget_is_enforced_and_corrected_by_the_list() {
        let budget = LockBudget::new(3);
        budget.counted(2);
        budget.admit().unwrap();
        budget.one_more();
        let ContainersError::Full(failure) = budget.admit().unwrap_err() else { panic!() };
        assert_eq!(failure.code, "too_many_containers");
        assert!(failure.cause.starts_with("too many containers on this host"), "{failure:?}");
        budget.one_less();
        budget.admit().unwrap();
        budget.one_more();
        assert!(budget.admit().is_err());
        budget.counted(2);
        budget.admit().unwrap();
    }

    #[test]
    fn fm_53_foreign_containers_pods_and_volumes_hold_locks_too() {
        let budget = LockBudget::new(10);
        budget.counted(2);
        budget.known.others.store(7, Ordering::Relaxed);
        budget.admit().unwrap();
        budget.known.others.store(8, Ordering::Relaxed);
        let ContainersError::Full(failure) = budget.admit().unwrap_err() else { panic!() };
        assert!(
            failure.cause.contains("2 of apps and 8 containers, pods and volumes"),
            "{failure:?}"
        );
    }

    #[test]
    fn fm_25_podmans_out_of_locks_error_is_recognised() {
        // Podman 4.3.1's wording.
        let words = "allocating lock for new container: allocation failed; exceeded num_locks (32)";
        assert!(matches!(no_lock_left(words), Some(ContainersError::Full(_))));
        assert!(no_lock_left("creating container storage: no such image").is_none());
    }
}
