//! Key files: created once with mode 0600, only read afterwards. A file that exists but cannot be
//! read is an error, never a reason to make a new key.

use std::fs::TryLockError;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use buddo_shared::model::secret::Secret;

/// A file of the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    /// Other users may read it.
    #[error("{path} is readable by others (mode {mode:o}); run: chmod 600 {path}")]
    Mode { path: String, mode: u32 },
}

/// Creates the state directory, with mode 0700, if it does not exist.
pub fn make_directory(path: &Path) -> Result<(), SecretFileError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| SecretFileError::Write { path: path.display().to_string(), source })
}

/// Reads `path`, or first creates it with what `make` returns. If two processes start at once, both
/// get what the first one wrote.
pub fn read_or_create<E: From<SecretFileError>>(
    path: &Path,
    make: impl FnOnce() -> Result<Secret, E>,
) -> Result<Secret, E> {
    match read(path) {
        Err(SecretFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path, &make()?)?;
            Ok(read(path)?)
        }
        other => Ok(other?),
    }
}

/// Reads a file that only its owner may read.
pub fn read(path: &Path) -> Result<Secret, SecretFileError> {
    let failed = |source| SecretFileError::Read { path: path.display().to_string(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Mode { path: path.display().to_string(), mode });
    }
    std::fs::read_to_string(path).map(Secret::new).map_err(failed)
}

/// Writes a new file atomically: synced under another name, then renamed. An existing one stays.
pub fn create(path: &Path, content: &Secret) -> Result<(), SecretFileError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        let file = temporary(directory, content)?;
        match file.persist_noclobber(path) {
            Ok(_) => std::fs::File::open(directory)?.sync_all(),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
        }
    };
    write().map_err(|source| SecretFileError::Write { path: path.display().to_string(), source })
}

/// Replaces a file atomically: a crash leaves either the old or the new content.
pub fn replace(path: &Path, content: &Secret) -> Result<(), SecretFileError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        temporary(directory, content)?.persist(path).map_err(|error| error.error)?;
        std::fs::File::open(directory)?.sync_all()
    };
    write().map_err(|source| SecretFileError::Write { path: path.display().to_string(), source })
}

/// A synced file without a name yet. `tempfile` creates files with mode 0600.
fn temporary(directory: &Path, content: &Secret) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    give_away(file.as_file(), directory)?;
    file.write_all(content.expose().as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Takes an exclusive lock on a lock file, which is created if absent, for as long as the answer
/// lives, also against other processes; `None`: somebody else holds it.
pub fn lock(path: &Path) -> Result<Option<std::fs::File>, SecretFileError> {
    locked(path, std::fs::File::try_lock)
}

/// Takes the same lock shared: only [`lock`] excludes it.
pub fn lock_shared(path: &Path) -> Result<Option<std::fs::File>, SecretFileError> {
    locked(path, std::fs::File::try_lock_shared)
}

fn locked(
    path: &Path,
    lock: impl FnOnce(&std::fs::File) -> Result<(), TryLockError>,
) -> Result<Option<std::fs::File>, SecretFileError> {
    let failed = |source| SecretFileError::Write { path: path.display().to_string(), source };
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    give_away(&file, path.parent().unwrap_or_else(|| Path::new("."))).map_err(failed)?;
    match lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Gives a file that root creates to the owner of its directory, which is the user that serves.
pub fn give_away(file: &std::fs::File, directory: &Path) -> io::Result<()> {
    let (owner, ours) = (std::fs::metadata(directory)?, file.metadata()?);
    if ours.uid() == owner.uid() || ours.uid() != 0 {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
}

/// Replaces `to` with `from`, durably: a crash leaves either one there.
pub fn rename(from: &Path, to: &Path) -> Result<(), SecretFileError> {
    let directory = to.parent().unwrap_or_else(|| Path::new("."));
    std::fs::rename(from, to)
        .and_then(|()| std::fs::File::open(directory)?.sync_all())
        .map_err(|source| SecretFileError::Write { path: to.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_created_once_and_readable_only_by_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let make = |text: &'static str| {
            read_or_create::<SecretFileError>(&path, || Ok(Secret::new(text))).unwrap()
        };
        assert_eq!(make("first").expose(), "first");
        assert_eq!(make("second").expose(), "first");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn files_created_by_root_get_the_owner_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        // Only root can test this.
        if std::os::unix::fs::chown(directory.path(), Some(65_534), Some(65_534)).is_err() {
            return;
        }
        let path = directory.path().join("key");
        create(&path, &Secret::new("x")).unwrap();
        replace(&path, &Secret::new("y")).unwrap();
        let locked = directory.path().join("lock");
        drop(lock(&locked).unwrap().unwrap());
        for path in [path, locked] {
            assert_eq!(std::fs::metadata(path).unwrap().uid(), 65_534);
        }
    }

    #[test]
    fn a_lock_is_held_by_one_or_shared_by_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let one = lock_shared(&path).unwrap().unwrap();
        let other = lock_shared(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none());
        drop((one, other));
        let alone = lock(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none() && lock_shared(&path).unwrap().is_none());
        drop(alone);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create(&path, &Secret::new("x")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
