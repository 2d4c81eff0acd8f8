//! Free space of the file systems that hold the agent's state and its images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::statvfs::{Statvfs, statvfs};
use tokio::sync::{Notify, Semaphore};

use crate::config;

/// How often space is checked during a pull.
const LOOK: Duration = Duration::from_millis(500);

/// A file system that has not answered by then is left out.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in use.
    pub used: u64,
    /// Bytes that an unprivileged process may still use.
    pub free: u64,
}

impl Space {
    /// As the kernel reports it (`statvfs(3)`). Space reserved for root is not ours.
    pub fn of(stat: &Statvfs) -> Self {
        let block = stat.fragment_size();
        Self {
            used: stat.blocks().saturating_sub(stat.blocks_free()).saturating_mul(block),
            free: stat.blocks_available().saturating_mul(block),
        }
    }

    /// How full it is, in per cent, rounded up: what `df` shows.
    pub fn percent(self) -> u8 {
        let total = u128::from(self.used) + u128::from(self.free);
        let percent = (u128::from(self.used) * 100).div_ceil(total.max(1));
        u8::try_from(percent).unwrap_or(100)
    }
}

/// Asks the kernel for the space of the file system at a path; injected.
pub type Measure = Arc<dyn Fn(&Path) -> std::io::Result<Space> + Send + Sync>;

pub fn system_measure() -> Measure {
    Arc::new(|path| Ok(Space::of(&statvfs(path)?)))
}

/// A file system with less than the floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// A folder on it.
    pub path: PathBuf,
    pub free: u64,
}

/// Why a pull is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overrun {
    /// The host has less than its floor.
    Floor(Shortage),
    /// This many bytes were used while it was pulled: more than all pulls under way may take.
    Growth(u64),
}

struct Inner {
    rules: config::Disk,
    state: PathBuf,
    /// Where images and their parts during a pull lie; empty until Podman has reported it.
    images: ArcSwap<Vec<PathBuf>>,
    measure: Measure,
    measuring: Arc<Semaphore>,
    patience: Duration,
    pulls: AtomicU64,
    wanted: Notify,
}

/// The disk space of the host. Clones share all state.
#[derive(Clone)]
pub struct DiskSpace(Arc<Inner>);

impl std::fmt::Debug for DiskSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskSpace").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}

impl DiskSpace {
    /// By `rules`, with the agent's own state in the folder `state`.
    pub fn new(rules: config::Disk, state: PathBuf, measure: Measure) -> Self {
        Self(Arc::new(Inner {
            rules,
            state,
            images: ArcSwap::default(),
            measure,
            measuring: Arc::new(Semaphore::new(1)),
            patience: PATIENCE,
            pulls: AtomicU64::new(0),
            wanted: Notify::new(),
        }))
    }

    pub fn rules(&self) -> &config::Disk {
        &self.0.rules
    }

    /// Podman keeps images in these folders.
    pub fn images_lie_in(&self, paths: Vec<PathBuf>) {
        if **self.0.images.load() != paths {
            self.0.images.store(Arc::new(paths));
        }
    }

    /// Space of each image folder that can be measured.
    pub async fn of_images(&self) -> Vec<(PathBuf, Space)> {
        self.measure(self.0.images.load_full().to_vec()).await
    }

    /// Space of all folders: those of images first, the agent's state last.
    pub async fn of_all(&self) -> Vec<(PathBuf, Space)> {
        let mut paths = self.0.images.load_full().to_vec();
        paths.push(self.0.state.clone());
        self.measure(paths).await
    }

    /// Off the async threads: a disk that hangs must not hang the agent. What cannot be measured is
    /// left out; its own users report why.
    async fn measure(&self, paths: Vec<PathBuf>) -> Vec<(PathBuf, Space)> {
        let (measure, one) = (Arc::clone(&self.0.measure), Arc::clone(&self.0.measuring));
        let all = async {
            // Kept until the kernel has answered: a hanging one takes one thread, not all.
            let permit = one.acquire_owned().await.ok();
            let all = move || {
                let _permit = permit;
                let space = |path: PathBuf| measure(&path).ok().map(|space| (path, space));
                paths.into_iter().filter_map(space).collect()
            };
            tokio::task::spawn_blocking(all).await.unwrap_or_default()
        };
        tokio::time::timeout(self.0.patience, all).await.unwrap_or_else(|_| {
            tracing::warn!("a file system did not report its free space in time");
            Vec::new()
        })
    }

    /// The fullest image folder, if it is below the floor. Wakes the GC.
    pub async fn shortage(&self) -> Option<Shortage> {
        let least = self.of_images().await.into_iter().min_by_key(|(_, space)| space.free);
        let (path, Space { free, .. }) = least?;
        if free >= self.0.rules.floor {
            return None;
        }
        self.0.wanted.notify_one();
        Some(Shortage { path, free })
    }

    /// Resolves when somebody found too little space.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Resolves when a pull that begins now must end: space falls below the floor, or by more than
    /// `allowance` for each pull under way. An image's own size shows this too late: a small layer
    /// can unpack to any size.
    pub async fn overrun(&self, allowance: u64) -> Overrun {
        let _count = Counted::new(&self.0.pulls);
        let free = |spaces: Vec<(PathBuf, Space)>| spaces.first().map(|(_, space)| space.free);
        let mut before = free(self.of_images().await);
        let mut at_once = 1;
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(shortage) = self.shortage().await {
                return Overrun::Floor(shortage);
            }
            at_once = self.0.pulls.load(Ordering::Relaxed).max(at_once);
            let now = free(self.of_images().await);
            // Where images lie may become known only now.
            before = before.or(now);
            let grown = before.zip(now).map_or(0, |(before, now)| before.saturating_sub(now));
            if grown > allowance.saturating_mul(at_once) {
                return Overrun::Growth(grown);
            }
        }
    }
}

struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rules() -> config::Disk {
        config::Disk {
            reserve: 0,
            high_percent: 85,
            low_percent: 80,
            floor: 100,
            keep_unused: Duration::from_hours(1),
            collect: true,
        }
    }

    /// A `DiskSpace` whose free bytes a test sets.
    fn disk_space(free: &Arc<AtomicU64>) -> DiskSpace {
        let free = Arc::clone(free);
        let measure: Measure =
            Arc::new(move |_| Ok(Space { used: 0, free: free.load(Ordering::SeqCst) }));
        let disk_space = DiskSpace::new(rules(), "/state".into(), measure);
        disk_space.images_lie_in(vec!["/images".into()]);
        disk_space
    }

    #[test]
    fn percent_matches_df() {
        assert_eq!(Space { used: 37, free: 55 }.percent(), 41);
        assert_eq!(Space { used: 0, free: 0 }.percent(), 0);
        assert_eq!(Space { used: 5, free: 0 }.percent(), 100);
        assert_eq!(Space { used: u64::MAX, free: u64::MAX }.percent(), 50);
    }

    #[test]
    fn measures_a_real_file_system() {
        let space = system_measure()(Path::new("/")).unwrap();
        assert!(space.used > 0);
        assert!(system_measure()(Path::new("/nonexistent/buddo")).is_err());
    }

    /// A disk that hangs blocks neither a pull nor a scrape, and takes one thread, however often it
    /// is asked.
    #[tokio::test]
    async fn a_hanging_file_system_is_skipped() {
        let (answer, wait) = std::sync::mpsc::channel::<()>();
        let (wait, asked) = (std::sync::Mutex::new(wait), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&asked);
        let measure: Measure = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = wait.lock().unwrap().recv();
            Ok(Space { used: 0, free: 1 })
        });
        let Ok(mut inner) = Arc::try_unwrap(DiskSpace::new(rules(), "/state".into(), measure).0)
        else {
            panic!("nobody else has it")
        };
        inner.patience = Duration::from_millis(20);
        let disk_space = DiskSpace(Arc::new(inner));
        let never = async {
            for _ in 0..5 {
                assert_eq!(disk_space.of_all().await, []);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), never).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // It answers again.
        drop(answer);
        let answers = async { while disk_space.of_all().await.is_empty() {} };
        tokio::time::timeout(Duration::from_secs(20), answers).await.unwrap();
    }

    async fn ended(pull: tokio::task::JoinHandle<Overrun>) -> Overrun {
        let ended = tokio::time::timeout(Duration::from_mins(1), pull).await;
        ended.expect("the pull goes on").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn fm_34_a_pull_ends_at_the_floor_or_when_it_grows_beyond_its_allowance() {
        let free = Arc::new(AtomicU64::new(1_000));
        let disk_space = disk_space(&free);
        assert_eq!(disk_space.shortage().await, None);
        let overrun = {
            let disk_space = disk_space.clone();
            tokio::spawn(async move { disk_space.overrun(300).await })
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!overrun.is_finished());
        free.store(650, Ordering::SeqCst);
        assert_eq!(ended(overrun).await, Overrun::Growth(350));
        // Two pulls may take twice as much; the floor holds for all of them.
        let both = [disk_space.clone(), disk_space.clone()]
            .map(|disk_space| tokio::spawn(async move { disk_space.overrun(300).await }));
        tokio::time::sleep(Duration::from_secs(2)).await;
        free.store(150, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(both.iter().all(|pull| !pull.is_finished()));
        free.store(99, Ordering::SeqCst);
        for pull in both {
            let shortage = Shortage { path: "/images".into(), free: 99 };
            assert_eq!(pull.await.unwrap(), Overrun::Floor(shortage));
        }
        tokio::time::timeout(Duration::from_secs(1), disk_space.wanted()).await.unwrap();
    }
}
