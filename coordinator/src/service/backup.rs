//! Backup and restore of the database.
//!
//! ```text
//! backup  ─► audit entry ─► consistent copy, 0600 ─► checked, synced ─► renamed to its name
//! restore ─► nobody uses the database ─► copy beside it ─► checked ─► schema, secrets under the
//!            current key, epoch raised, sessions ended ─► old one aside ─► renamed into place
//! ```
//!
//! Nothing is changed before the last rename, and the previous database is kept.

use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use serde_json::json;

use crate::crypto::vault::{Vault, VaultError};
use crate::process::secret_file::{self, SecretFileError};
use crate::service::hosts::epoch::{self, Raised};
use crate::service::master_key::{self, AtRestError};
use crate::store::contract::{AuditChainState, ChainLink, ClockMark};
use crate::store::sqlite::snapshot;
use crate::store::{Store, StoreError, Tables};

/// Values re-encrypted at a time.
const BATCH: u32 = 1000;

/// No backup was made, or none restored. The existing files are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("there is no database {0}; check state_dir in the configuration")]
    Nothing(String),
    /// The backup would overwrite a file.
    #[error("{0} already exists; name a file that does not")]
    Exists(String),
    /// The database is in use.
    #[error(
        "a coordinator or a command of it uses the database; stop it first \
         (systemctl stop buddo-coordinator)"
    )]
    InUse,
    /// The backup would replace a database.
    #[error(
        "there is a database already, {0}; to put the backup in its place use --force: it is kept \
         beside it"
    )]
    Occupied(String),
    /// The backup's secrets cannot be read without it.
    #[error("the master key is missing; put master.key in place first, from its own backup")]
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
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] SecretFileError),
    /// The master key cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The secrets cannot be re-encrypted.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The database, or the backup, cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.display().to_string(), source }
    }
}

/// Writes a backup of `database` to `to`; returns the head of its audit chain.
pub async fn back_up(database: &Path, to: &Path, now: Timestamp) -> Result<ChainLink, BackupError> {
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
            tables.audit_chain_head()
        })
        .await?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    // `tempfile` creates files with mode 0600 from the start.
    let file = tempfile::NamedTempFile::new_in(directory);
    let file = file.map_err(BackupError::file("make a file in", directory))?;
    snapshot::copy(database, file.path())?;
    snapshot::check(file.path())?;
    file.as_file().sync_all().map_err(BackupError::file("write", to))?;
    file.persist_noclobber(to).map_err(|error| BackupError::file("write", to)(error.error))?;
    sync(directory)?;
    Ok(head)
}

/// A restore as requested.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub from: &'a Path,
    /// The database to create.
    pub database: &'a Path,
    /// The current master key.
    pub master_key: &'a Path,
    /// The key from the time of the backup, if it differs.
    pub old_master_key: Option<&'a Path>,
    /// Replace an existing database.
    pub force: bool,
    /// Keep logins, tokens, API keys and invitations valid.
    pub keep_sessions: bool,
}

/// Result of a restore.
#[derive(Debug)]
pub struct Restored {
    /// The new epoch.
    pub raised: Raised,
    /// The state of the backup's audit chain.
    pub audit_chain: AuditChainState,
    /// Where the previous database is kept.
    pub aside: Option<PathBuf>,
}

/// Restores a backup.
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
    let (raised, audit_chain) = snapshot::change(&copy.path, |tables| {
        let audit_chain = tables.verify_audit_chain()?;
        take_over(tables, &vault, now, wanted.keep_sessions).map(|raised| (raised, audit_chain))
    })?;
    let aside = if occupied { Some(put_aside(database, now)?) } else { None };
    secret_file::rename(&copy.path, database)?;
    Ok(Restored { raised, audit_chain, aside })
}

/// Makes the copy ready to be served: its secrets can be read, hosts accept its documents, and
/// logins that were ended after the backup stay ended.
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
    // The backup's time is long past: the administrator's act confirms the current one.
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

/// Keeps the existing database under another name, including its write-ahead log.
fn put_aside(database: &Path, now: Timestamp) -> Result<PathBuf, BackupError> {
    let aside = snapshot::beside(database, &format!(".replaced-{}", now.as_second()));
    // A second name first: if there were none for a moment, a start would create an empty database.
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

/// The copy of a backup, deleted on drop unless it was put in place.
struct Copy {
    path: PathBuf,
}

impl Copy {
    fn of(from: &Path, to: &Path) -> Result<Self, BackupError> {
        let copy = Self { path: to.to_owned() };
        // Left over from a killed restore.
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
            // A leftover file only takes up space.
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
