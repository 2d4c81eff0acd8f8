//! Atomic file replacement: the old or the new content, complete, even after a power loss.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Runs file operations on a blocking thread: a disk may be slow or hang, and no async thread
/// should wait for it.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

/// Replaces `path` with `bytes`: a temporary file beside it, synced and renamed over it; then the
/// directory is synced. On any error the old file is unchanged.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    replace_by_way_of(&temporary(path), path, bytes, mode)
}

/// Like [`replace`], with the temporary file at `way`, which must be on the same file system.
pub fn replace_by_way_of(way: &Path, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let written = write(way, bytes, mode).and_then(|()| std::fs::rename(way, path));
    if let Err(error) = written {
        // A leftover does no harm; the first error is the one that counts.
        let _ = std::fs::remove_file(way);
        return Err(error);
    }
    flush_folder(path)
}

fn write(way: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(way)?;
    file.write_all(bytes)?;
    // Not at open: the umask must not narrow what another process has to read.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Makes a rename or removal of `path` durable.
pub fn flush_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_content_and_mode_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        replace(&path, b"old and long", 0o600).unwrap();
        replace(&path, b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new", 0o600).is_err());
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Every write through the symlink fails for lack of space, as on a full disk (`full(4)`).
    #[test]
    fn fm_13_a_full_disk_leaves_the_old_file_intact() {
        let folder = tempfile::tempdir().unwrap();
        let (path, way) = (folder.path().join("f"), folder.path().join("way"));
        replace(&path, b"old", 0o600).unwrap();
        std::os::unix::fs::symlink("/dev/full", &way).unwrap();
        let error = replace_by_way_of(&way, &path, b"new", 0o600).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn file_work_runs_off_the_async_thread() {
        let here = std::thread::current().id();
        assert_ne!(off_thread(|| std::thread::current().id()).await.unwrap(), here);
    }
}
