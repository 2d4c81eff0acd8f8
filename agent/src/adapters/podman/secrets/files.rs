//! Podman's two files of secrets, under its own locks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buddo_runtime::durable;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::Serialize;
use tokio::time::Instant;

use super::mend::{Whole, mend};
use crate::model::container::Mended;

/// A write of Podman's takes milliseconds; whoever holds its lock for longer hangs.
const LOCKED: Duration = Duration::from_secs(2);
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// The most that is read of a file, in bytes. Values are bounded, and 10,000 of them stay below
/// this.
const MAX_FILE: u64 = 512 * 1024 * 1024;

/// The files of the Podman whose storage is in `graph_root`. If a host's configuration uses other
/// drivers for values, nothing of theirs is touched.
#[derive(Debug, Clone)]
pub(super) struct Files {
    names: PathBuf,
    values: PathBuf,
}

impl Files {
    pub(super) fn below(graph_root: &Path) -> Self {
        let folder = graph_root.join("secrets");
        Self {
            values: folder.join("filedriver").join("secretsdata.json"),
            names: folder.join("secrets.json"),
        }
    }

    /// Repairs them, and returns the saved copies of torn ones, from now or earlier.
    pub(super) async fn mend(self) -> io::Result<Mended> {
        // In the order in which Podman locks them.
        let names = lock(&self.names.with_file_name("secrets.lock")).await?;
        let values = lock(&self.values.with_file_name("secretsdata.lock")).await?;
        tokio::task::spawn_blocking(move || {
            let mended = self.mend_locked();
            drop((names, values));
            mended
        })
        .await?
    }

    fn mend_locked(&self) -> io::Result<Mended> {
        let Some(folder) = self.values.parent() else { return Ok(Mended::default()) };
        let (names, values) = (read(&self.names)?, read(&self.values)?);
        let whole = mend(names.as_deref(), values.as_deref(), folder);
        if let Some(whole) = &whole {
            self.replace(whole)?;
        }
        let aside = [aside(&self.names), aside(&self.values)];
        Ok(Mended {
            changed: whole.is_some(),
            aside: aside.into_iter().filter(|path| path.exists()).collect(),
        })
    }

    fn replace(&self, whole: &Whole) -> io::Result<()> {
        let (names, values) = (whole.names_torn, whole.values_torn);
        // Without names nobody knows whose value is whose: both are kept for someone who can tell.
        for (path, torn) in [(&self.names, names), (&self.values, values || names)] {
            if torn {
                set_aside(path)?;
            }
        }
        // In Podman's order, so that a kill in between leaves what is mended next time.
        write(&self.values, &whole.values)?;
        write(&self.names, &whole.names)?;
        let halves = whole.halves;
        tracing::warn!(names, values, halves, "repairing Podman's torn secrets files");
        Ok(())
    }
}

/// Not a removal: Podman's service keeps using what it read last as long as there is no file.
fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    durable::replace(path, &serde_json::to_vec_pretty(content)?, 0o600)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".torn");
    path.with_file_name(name)
}

/// One copy of each file is kept, the last: repeated tearing must not fill the disk.
fn set_aside(path: &Path) -> io::Result<()> {
    let aside = aside(path);
    absent_is_well(fs::remove_file(&aside))?;
    // A hard link takes no space, of which there may be none.
    absent_is_well(fs::hard_link(path, &aside))
}

fn absent_is_well(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any can be"));
    }
    Ok(Some(content))
}

/// Takes one of Podman's locks (`fcntl(2)`, the whole file) until the file is dropped; `None`: its
/// folder does not exist. An open-file-description lock: closing another file of this process
/// cannot release it.
async fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(path) {
        Ok(file) => file,
        // Nor is there anything to lock.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    #[expect(clippy::cast_possible_truncation, reason = "they are 1 and 0")]
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let begun = Instant::now();
    loop {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole)) {
            Ok(_) => return Ok(Some(file)),
            Err(Errno::EAGAIN | Errno::EACCES) if begun.elapsed() < LOCKED => {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let words = format!("{} is locked by something that hangs", path.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, words));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn podman(names: &str, values: &str) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path());
        fs::create_dir_all(files.values.parent().unwrap()).unwrap();
        fs::write(&files.names, names).unwrap();
        fs::write(&files.values, values).unwrap();
        (root, files)
    }

    #[tokio::test]
    async fn nothing_is_created_if_podman_never_stored_a_secret() {
        let root = tempfile::tempdir().unwrap();
        let mended = Files::below(root.path()).mend().await.unwrap();
        assert_eq!(mended, Mended::default());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn fm_19_torn_files_are_set_aside_and_reported_until_removed() {
        let (_root, files) = podman("{\"secrets", r#"{"1":"djE="}"#);
        let kept: Vec<_> = [&files.names, &files.values].into_iter().map(|f| aside(f)).collect();
        let mended = files.clone().mend().await.unwrap();
        assert_eq!(mended, Mended { changed: true, aside: kept.clone() });
        assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "{\"secrets");
        assert_eq!(fs::read_to_string(&kept[1]).unwrap(), r#"{"1":"djE="}"#);
        assert_eq!(files.values.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let again = files.clone().mend().await.unwrap();
        assert_eq!(again, Mended { changed: false, aside: kept });
        // The next copy replaces the last, if there is one.
        fs::write(&files.values, "").unwrap();
        assert!(files.clone().mend().await.unwrap().changed);
        assert_eq!(fs::read_to_string(aside(&files.values)).unwrap(), "");
        for file in [&files.names, &files.values] {
            fs::remove_file(aside(file)).unwrap();
        }
        assert_eq!(files.mend().await.unwrap(), Mended::default());
    }

    /// Podman itself is writing: the current content is not torn.
    #[tokio::test(start_paused = true)]
    async fn files_locked_by_podman_are_waited_for_with_a_timeout() {
        for name in ["secrets.lock", "filedriver/secretsdata.lock"] {
            let (root, files) = podman("", "");
            let held = lock(&root.path().join("secrets").join(name)).await.unwrap();
            let error = files.clone().mend().await.unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(fs::read(&files.names).unwrap(), b"", "it was changed");
            drop(held);
            assert!(files.mend().await.unwrap().changed);
        }
    }
}
