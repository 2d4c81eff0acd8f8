//! The live table's file: written by the agent, read by the resolver.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_runtime::durable;

use crate::model::live_table::LiveTable;
use crate::ports::LiveTablePublisher;
use crate::process::disk_reserve::Reserve;

/// The largest table that is read, in bytes: far above what 10,000 apps need.
const MAX_TABLE: u64 = 32 * 1024 * 1024;

/// Publishes the table as a file that is replaced atomically and synced to disk.
#[derive(Debug, Clone)]
pub struct LiveTableFile {
    path: PathBuf,
    /// The file as last published.
    published: Arc<Mutex<Option<Stamp>>>,
    /// Released on a full disk.
    reserve: Reserve,
}

impl LiveTableFile {
    /// Writes to `path`, whose folder must exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, published: Arc::default(), reserve: Reserve::none() }
    }

    /// The same file, written with `reserve` to fall back on.
    #[must_use]
    pub fn with_reserve(self, reserve: Reserve) -> Self {
        Self { reserve, ..self }
    }

    fn published(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveTablePublisher for LiveTableFile {
    async fn publish(&self, table: &LiveTable) -> std::io::Result<()> {
        let (file, text) = (self.clone(), serde_json::to_vec(table)?);
        // A disk may take its time; no async worker waits for it.
        let written = durable::off_thread(move || {
            file.reserve.behind(|| durable::replace(&file.path, &text, 0o600))?;
            *file.published() = stamp(&file.path);
            Ok(())
        });
        written.await.flatten()
    }

    async fn is_in_force(&self) -> bool {
        let file = self.clone();
        let same = move || {
            let published = *file.published();
            published.is_some() && published == stamp(&file.path)
        };
        durable::off_thread(same).await.unwrap_or(false)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(Stamp::from)
}

/// Identifies a version of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl From<std::fs::Metadata> for Stamp {
    fn from(file: std::fs::Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }
}

/// What the last look at the file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Looked {
    #[default]
    Never,
    Missing,
    At(Stamp),
}

#[derive(Debug, Default)]
struct State {
    /// The version that was last read, good or bad.
    looked: Looked,
    /// The version for which a read failure was last logged.
    told: Looked,
    /// The last good one.
    table: Option<Arc<LiveTable>>,
}

/// Reads the table when it changed, and keeps the last good one if it cannot be read.
#[derive(Debug)]
pub(super) struct TableReader {
    path: PathBuf,
    state: Mutex<State>,
}

impl TableReader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// The table in force: one `stat`, and a read only if the file changed. `None`: it is missing
    /// or unreadable, and no earlier one is known. That says nothing about which apps exist: the
    /// file may have been lost with the disk's last writes, and the agent writes it again.
    pub(super) fn current(&self) -> Option<Arc<LiveTable>> {
        self.current_by(read)
    }

    fn current_by(
        &self,
        read: impl FnOnce(&Path) -> Result<Read, NotRead>,
    ) -> Option<Arc<LiveTable>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = stamp(&self.path).map_or(Looked::Missing, Looked::At);
        if looked != state.looked {
            match read(&self.path) {
                Ok((stamp, table)) => {
                    // Of the file that was opened: a newer one may have come since the `stat`.
                    let (looked, table) = (Looked::At(stamp), Some(Arc::new(table)));
                    *state = State { looked, told: looked, table };
                }
                Err(NotRead { reason, passing }) => {
                    if state.told != looked {
                        tracing::error!(
                            path = %self.path.display(),
                            %reason,
                            "cannot read the live table; answering from the last good one; \
                             requests are held if there is none"
                        );
                    }
                    state.told = looked;
                    // The next question may be able to read the same file.
                    if !passing {
                        state.looked = looked;
                    }
                }
            }
        }
        state.table.clone()
    }
}

type Read = (Stamp, LiveTable);

/// Why there is no table.
struct NotRead {
    reason: std::io::Error,
    /// It says nothing about the file: too many are open, or the disk did not answer.
    passing: bool,
}

impl From<std::io::Error> for NotRead {
    fn from(reason: std::io::Error) -> Self {
        let passing = reason.kind() != std::io::ErrorKind::NotFound;
        Self { reason, passing }
    }
}

fn read(path: &Path) -> Result<Read, NotRead> {
    let malformed = |reason| NotRead { reason, passing: false };
    let file = File::open(path)?;
    let stamp = Stamp::from(file.metadata()?);
    let mut text = Vec::new();
    let read = file.take(MAX_TABLE + 1).read_to_end(&mut text)?;
    if read as u64 > MAX_TABLE {
        return Err(malformed(std::io::Error::other("it is too large for a live table")));
    }
    let table = serde_json::from_slice(&text).map_err(|error| malformed(error.into()))?;
    Ok((stamp, table))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::live_table::Target;

    fn table(apps: &[&str]) -> LiveTable {
        let live = Target::Live { addresses: smallvec::smallvec![Ipv4Addr::new(127, 64, 0, 1)] };
        LiveTable {
            zone: "apps.example.test".to_owned(),
            apps: apps.iter().map(|app| ((*app).to_owned(), live.clone())).collect(),
            domains: [("www.example.org".to_owned(), "one".to_owned())].into(),
        }
    }

    #[tokio::test]
    async fn the_next_query_uses_a_newly_published_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let (file, reader) = (LiveTableFile::new(path.clone()), TableReader::new(path));
        assert_eq!(reader.current(), None);
        for apps in [&["one"][..], &["one", "two"], &["one"], &["two"]] {
            file.publish(&table(apps)).await.unwrap();
            assert_eq!(*reader.current().unwrap(), table(apps));
        }
    }

    /// `fm_15`: cut at every byte, the file is never taken for a table; the last good one stays.
    #[tokio::test]
    async fn fm_15_a_torn_table_never_replaces_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let (file, reader) = (LiveTableFile::new(path.clone()), TableReader::new(path.clone()));
        file.publish(&table(&["one"])).await.unwrap();
        assert_eq!(*reader.current().unwrap(), table(&["one"]));
        let whole = serde_json::to_vec(&table(&["one", "two"])).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(*reader.current().unwrap(), table(&["one"]), "cut at {length}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*reader.current().unwrap(), table(&["one"]));
        file.publish(&table(&["two"])).await.unwrap();
        assert_eq!(*reader.current().unwrap(), table(&["two"]));
    }

    /// Too many open files say nothing about the table: the next question reads it.
    #[tokio::test]
    async fn fm_15_a_failed_read_is_retried_at_the_next_query() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let (file, reader) = (LiveTableFile::new(path.clone()), TableReader::new(path));
        file.publish(&table(&["one"])).await.unwrap();
        assert_eq!(*reader.current().unwrap(), table(&["one"]));
        file.publish(&table(&["two"])).await.unwrap();
        let too_many = |_: &Path| Err(std::io::Error::from_raw_os_error(24).into());
        assert_eq!(*reader.current_by(too_many).unwrap(), table(&["one"]), "the last good one");
        assert_eq!(*reader.current().unwrap(), table(&["two"]));
    }

    /// `fm_15`: without an earlier table a torn one says nothing, not even that there is no app.
    #[tokio::test]
    async fn fm_15_a_torn_table_is_not_read_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        std::fs::write(&path, "{\"zone\":\"apps.exam").unwrap();
        let reader = TableReader::new(path.clone());
        assert_eq!(reader.current(), None);
        LiveTableFile::new(path).publish(&table(&["one"])).await.unwrap();
        assert_eq!(*reader.current().unwrap(), table(&["one"]));
    }

    /// `fm_15`: lost before this resolver started, it says just as little.
    #[tokio::test]
    async fn fm_15_a_missing_table_is_not_read_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let reader = TableReader::new(path.clone());
        assert_eq!((reader.current(), reader.current()), (None, None));
        LiveTableFile::new(path).publish(&table(&[])).await.unwrap();
        assert_eq!(*reader.current().unwrap(), table(&[]), "now it is known that there is none");
    }

    /// The first try to write it finds no space (`full(4)`).
    #[tokio::test]
    async fn a_table_write_on_a_full_disk_is_retried_once_the_reserve_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let reserve = Reserve::new(folder.path().join("reserve"), 1024 * 1024);
        reserve.keep(u64::MAX).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join(".live.json.tmp")).unwrap();
        let file = LiveTableFile::new(path.clone()).with_reserve(reserve.clone());
        file.publish(&table(&["one"])).await.unwrap();
        assert_eq!(*TableReader::new(path).current().unwrap(), table(&["one"]));
        assert!(!reserve.is_whole());
    }

    #[tokio::test]
    async fn a_replaced_or_removed_table_is_not_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let file = LiveTableFile::new(path.clone());
        assert!(!file.is_in_force().await);
        file.publish(&table(&["one"])).await.unwrap();
        assert!(file.is_in_force().await);
        std::fs::write(&path, "{").unwrap();
        assert!(!file.is_in_force().await);
        file.publish(&table(&["one"])).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_in_force().await);
    }
}
