//! Backups of the database, and the way back.
//!
//! ```text
//! backup  ─► entry in the log ─► consistent copy, 0600 ─► checked, synced ─► its name
//! restore ─► nobody uses the database ─► copy beside it ─► checked ─► schema, secrets under the
//!            present key, epoch raised, sessions ended ─► the old one aside ─► in its place, by one rename
//! ```
//!
//! Nothing is changed before the last rename, and what was there before is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use crate::crypto::vault::{Vault, VaultError};
use crate::process::secret_file::{self, SecretFileError};
use crate::service::hosts::epoch::{self, Raised};
use crate::service::master_key::{self, AtRestError};
use crate::store::contract::{AuditChainState, ClockMark, Link};
use crate::store::sqlite::snapshot;
use crate::store::{Store, StoreError, Tables};

/// Values that are encrypted anew at a time.
const BATCH: u32 = 1000;

/// No backup was made, or none restored. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("there is no database {0}; check state_dir in the configuration")]
    Nothing(String),
    /// The backup would replace something.
    #[error("{0} is there already; name a file that is not")]
    Exists(String),
    /// Somebody uses the database.
    #[error(
        "a coordinator or a command of it uses the database; stop it first \
         (systemctl stop buddo-coordinator)"
    )]
    InUse,
    /// There is something that the backup would replace.
    #[error(
        "there is a database already, {0}; to put the backup in its place use --force: it is kept \
         beside it"
    )]
    Occupied(String),
    /// Secrets of the backup cannot be read without it.
    #[error("the master key is not there; put master.key in place first, from its own backup")]
    NoKey(#[source] VaultError),
    /// The backup is from before a rotation of the master key.
    #[error(
        "secrets in the backup were encrypted with another master key; name the master.key of that \
         time with --master-key FILE"
    )]
    OtherKey(#[source] AtRestError),
    /// A file cannot be read or written.
    #[error("cannot {operation} {path}")]
    File {
        /// What was to be done.
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] SecretFileError),
    /// A master key cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Secrets cannot be encrypted anew.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The database, or the backup of one, cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.display().to_string(), source }
    }
}

/// Writes a backup of `database` to `to`; the last link of its audit chain.
pub async fn back_up(database: &Path, to: &Path, now: Timestamp) -> Result<Link, BackupError> {
    if !database.exists() {
        return Err(BackupError::Nothing(database.display().to_string()));
    }
    if to.exists() {
        return Err(BackupError::Exists(to.display().to_string()));
    }
    let store = Store::open(database)?;
    let head = store
        .write(move |tables| {
            tables.insert_admin_act("backup", now, None, &json!({}))?;
            tables.ledger_head()
        })
        .await?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    // `tempfile` makes files with mode 0600, from the first moment on.
    let file = tempfile::NamedTempFile::new_in(directory);
    let file = file.map_err(BackupError::file("make a file in", directory))?;
    snapshot::copy(database, file.path())?;
    snapshot::check(file.path())?;
    file.as_file().sync_all().map_err(BackupError::file("write", to))?;
    file.persist_noclobber(to).map_err(|error| BackupError::file("write", to)(error.error))?;
    sync(directory)?;
    Ok(head)
}

/// What to restore, and how.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub from: &'a Path,
    /// The database that it becomes.
    pub database: &'a Path,
    /// The present master key.
    pub master_key: &'a Path,
    /// The one of the time of the backup, where it is another one.
    pub old_master_key: Option<&'a Path>,
    /// Also where there is a database already.
    pub force: bool,
    /// Logins, tokens, API keys and invitations go on.
    pub keep_sessions: bool,
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// The epoch from now on.
    pub raised: Raised,
    /// Whether the audit logs of the backup hold.
    pub ledger: AuditChainState,
    /// Where the database that was there is kept.
    pub aside: Option<PathBuf>,
}

/// Puts a backup in place.
pub fn restore(wanted: &Wanted<'_>, now: Timestamp) -> Result<Restored, BackupError> {
    let Wanted { from, database, .. } = *wanted;
    let _lock = secret_file::lock(&snapshot::lock_path(database))?.ok_or(BackupError::InUse)?;
    let occupied = database.exists();
    if occupied && !wanted.force {
        return Err(BackupError::Occupied(database.display().to_string()));
    }
    let vault = Vault::open_existing(wanted.master_key).map_err(BackupError::NoKey)?;
    if let Some(old) = wanted.old_master_key {
        vault.learn(&Vault::open_existing(old)?);
    }
    let copy = Copy::of(from, &snapshot::beside(database, ".restoring"))?;
    snapshot::check(&copy.path)?;
    let (raised, ledger) = snapshot::change(&copy.path, |tables| {
        let ledger = tables.verify_ledger()?;
        take_over(tables, &vault, now, wanted.keep_sessions).map(|raised| (raised, ledger))
    })?;
    let aside = if occupied { Some(put_aside(database, now)?) } else { None };
    secret_file::rename(&copy.path, database)?;
    Ok(Restored { raised, ledger, aside })
}

/// Makes the copy one that can be served: its secrets can be read, hosts obey it, and nobody is
/// logged in who was thrown out after the backup.
fn take_over(
    tables: &mut dyn Tables,
    vault: &Vault,
    now: Timestamp,
    keep_sessions: bool,
) -> Result<Raised, BackupError> {
    let renew = |tables: &mut dyn Tables| master_key::renew(tables, vault, BATCH);
    while renew(tables).map_err(another_key)? > 0 {}
    tables.end_first_form()?;
    if !keep_sessions {
        tables.end_all_sessions(now)?;
    }
    // The backup's time is long past: the administrator's act stands for the present one.
    tables.set_clock_mark(ClockMark::Seen, now)?;
    let raised = epoch::raise_in(tables, now)?;
    let details = json!({
        "epoch": raised.epoch, "hosts": raised.hosts, "sessions_kept": keep_sessions,
    });
    tables.insert_admin_act("restore", now, None, &details)?;
    Ok(raised)
}

fn another_key(error: AtRestError) -> BackupError {
    match error {
        AtRestError::Unreadable { source: VaultError::OtherKey, .. } => {
            BackupError::OtherKey(error)
        }
        error => error.into(),
    }
}

/// Keeps the database that is there under another name, with what was not yet written into it.
fn put_aside(database: &Path, now: Timestamp) -> Result<PathBuf, BackupError> {
    let aside = snapshot::beside(database, &format!(".replaced-{}", now.as_second()));
    // A second name first: at no time is there none, and a start would make an empty database.
    fs::hard_link(database, &aside).map_err(BackupError::file("keep the database as", &aside))?;
    for suffix in ["-wal", "-shm"] {
        let (file, kept) = (snapshot::beside(database, suffix), snapshot::beside(&aside, suffix));
        match fs::rename(&file, &kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackupError::file("move", &file)(error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn sync(directory: &Path) -> Result<(), BackupError> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(BackupError::file("sync", directory))
}

/// A copy of a backup, which is gone unless it took its place.
struct Copy {
    path: PathBuf,
}

impl Copy {
    fn of(from: &Path, to: &Path) -> Result<Self, BackupError> {
        let copy = Self { path: to.to_owned() };
        // Of a restore that was killed.
        copy.remove();
        let mut source = fs::File::open(from).map_err(BackupError::file("read", from))?;
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.write(true).create_new(true).open(to);
        let mut file = file.map_err(BackupError::file("write", to))?;
        let directory = to.parent().unwrap_or_else(|| Path::new("."));
        secret_file::give_away(&file, directory).map_err(BackupError::file("write", to))?;
        io::copy(&mut source, &mut file).map_err(BackupError::file("copy the backup to", to))?;
        Ok(copy)
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            // Nothing but room is lost where one stays.
            let _ = fs::remove_file(snapshot::beside(&self.path, suffix));
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests;
