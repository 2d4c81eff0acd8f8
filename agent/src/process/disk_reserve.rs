//! Disk space reserved for what must be written: the live table, and the persisted state. A file of
//! its own occupies it; on a full disk that file is deleted, and the write succeeds. It is
//! recreated when there is space.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_runtime::durable;
use nix::fcntl::posix_fallocate;
use tokio::sync::Notify;

const MIB: u64 = 1024 * 1024;

/// The reserve of one disk. Clones share all state. Everything not async may wait for the disk, and
/// must not run on async threads.
#[derive(Debug, Clone)]
pub struct Reserve(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    bytes: u64,
    /// Held while creating or releasing it.
    turn: Mutex<()>,
    gone: Notify,
    /// How often it was released.
    times: AtomicU64,
}

/// State of the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In place, or not wanted.
    Whole,
    /// Missing, because there is too little space.
    Missing,
}

impl Reserve {
    /// `bytes` in the file `path`; 0: no reserve.
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        let (turn, gone, times) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self(Arc::new(Inner { path, bytes, turn, gone, times }))
    }

    pub fn none() -> Self {
        Self::new(PathBuf::new(), 0)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the file if it is missing and `free` bytes leave as much beside it.
    pub fn keep(&self, free: u64) -> io::Result<Kept> {
        let _turn = self.turn();
        let Inner { path, bytes, .. } = &*self.0;
        if *bytes == 0 {
            // There may be one from an earlier configuration.
            return self.remove().map(|_| Kept::Whole);
        }
        if self.is_whole() {
            return Ok(Kept::Whole);
        }
        // Do not take just-freed space away again at once.
        if free < bytes.saturating_mul(2) {
            return Ok(Kept::Missing);
        }
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .and_then(|file| {
                // A sparse file would reserve nothing.
                posix_fallocate(&file, 0, i64::try_from(*bytes).unwrap_or(i64::MAX))?;
                file.set_len(*bytes)?;
                file.sync_all()
            });
        match made {
            Ok(()) => Ok(Kept::Whole),
            Err(error) => {
                self.remove()?;
                if is_full(&error) { Ok(Kept::Missing) } else { Err(error) }
            }
        }
    }

    /// Releases the space, for something that must be written. Returns whether there was any.
    pub fn let_go(&self) -> bool {
        let _turn = self.turn();
        if self.0.bytes == 0 {
            return false;
        }
        match self.remove() {
            Ok(true) => {
                self.0.times.fetch_add(1, Ordering::SeqCst);
                self.0.gone.notify_one();
                let path = self.0.path.display();
                tracing::warn!(%path, "the disk is full: released its reserve for essential writes");
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::error!(%error, "the disk is full, and its reserve cannot be released");
                false
            }
        }
    }

    /// Waits until it is released.
    pub async fn was_let_go(&self) {
        self.0.gone.notified().await;
    }

    /// Does `write`, and once more if the disk was full and there was a reserve to release.
    pub fn behind<T>(&self, write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.behind_where(is_full, write)
    }

    /// Like [`behind`](Self::behind), for errors of which only `lacks_room` can tell. Space
    /// released by another caller in the meantime counts as well.
    pub fn behind_where<T, E>(
        &self,
        lacks_room: impl FnOnce(&E) -> bool,
        mut write: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let times = || self.0.times.load(Ordering::SeqCst);
        let before = times();
        match write() {
            Err(error) if lacks_room(&error) && (self.let_go() || times() != before) => write(),
            done => done,
        }
    }

    /// Warning for the administrator while it is missing.
    pub fn warning(&self) -> String {
        format!(
            "the reserve of {} MiB for what must be written is used up or does not fit on the \
             disk of {}: free or add disk space; it is then recreated",
            self.0.bytes / MIB,
            self.0.path.display()
        )
    }

    /// Whether all of it is on the disk.
    pub fn is_whole(&self) -> bool {
        let file = std::fs::metadata(&self.0.path);
        file.is_ok_and(|file| file.len() == self.0.bytes && file.blocks() * 512 >= self.0.bytes)
    }

    fn remove(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.0.path) {
            Ok(()) => durable::flush_folder(&self.0.path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether it failed for lack of space, be it the disk's or the user's quota.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = MIB;

    fn reserve(folder: &std::path::Path, bytes: u64) -> Reserve {
        Reserve::new(folder.join("reserve"), bytes)
    }

    #[test]
    fn fm_59_the_reserve_allocates_real_blocks_and_is_released_once() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = reserve(folder.path(), BYTES);
        assert_eq!(reserve.keep(BYTES * 2 - 1).unwrap(), Kept::Missing, "too little is left");
        assert_eq!(reserve.keep(BYTES * 2).unwrap(), Kept::Whole);
        let file = std::fs::metadata(folder.path().join("reserve")).unwrap();
        assert!(file.len() == BYTES && file.blocks() * 512 >= BYTES, "it is sparse");
        assert_eq!(reserve.keep(0).unwrap(), Kept::Whole, "it is there already");
        assert!(reserve.let_go() && !reserve.let_go());
        assert_eq!(reserve.keep(0).unwrap(), Kept::Missing);
        assert_eq!(reserve.keep(u64::MAX).unwrap(), Kept::Whole);
    }

    #[test]
    fn a_partial_reserve_is_completed_and_an_unwanted_one_removed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::File::create(folder.path().join("reserve")).unwrap().set_len(BYTES).unwrap();
        assert_eq!(reserve(folder.path(), BYTES).keep(0).unwrap(), Kept::Missing);
        assert_eq!(reserve(folder.path(), BYTES).keep(u64::MAX).unwrap(), Kept::Whole);
        assert!(!reserve(folder.path(), 0).let_go());
        assert_eq!(reserve(folder.path(), 0).keep(u64::MAX).unwrap(), Kept::Whole);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn fm_59_a_write_on_a_full_disk_is_retried_once_the_reserve_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = reserve(folder.path(), BYTES);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let write = || if folder.path().join("reserve").exists() { Err(full()) } else { Ok(7) };
        reserve.keep(u64::MAX).unwrap();
        assert_eq!(reserve.behind(write).unwrap(), 7);
        let mut tries = 0;
        let never = reserve.behind(|| {
            tries += 1;
            Err::<(), _>(full())
        });
        assert!(never.is_err() && tries == 1, "there is nothing left to let go");
        reserve.keep(u64::MAX).unwrap();
        let (mut tries, other_thread) = (0, reserve.clone());
        let late = reserve.behind(|| {
            tries += 1;
            // Both meet the full disk, and the other is the first to do something about it.
            if other_thread.let_go() { Err(full()) } else { Ok(tries) }
        });
        assert_eq!(late.unwrap(), 2, "there is room, whoever made it");
        reserve.keep(u64::MAX).unwrap();
        let other = reserve.behind(|| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert!(other.is_err() && reserve.let_go(), "it was let go for another error");
    }

    #[test]
    fn an_exceeded_quota_counts_as_a_full_disk() {
        for (kind, full) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            assert_eq!(is_full(&kind.into()), full, "{kind}");
        }
    }
}
