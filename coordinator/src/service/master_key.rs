//! Rotation of the master key, and other operations on all encrypted values.
//!
//! ```text
//! rotate ─► file: new and old key ─► re-encrypt in batches ─► none left: audit ─► file: new key
//! ```
//!
//! Each step is durable before the next one begins, and the progress is visible in file and
//! database alone: a killed rotation resumes when it is requested again. A coordinator may serve
//! meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buddo_runtime::error_chain::chain;
use jiff::Timestamp;
use serde_json::json;

use crate::crypto::random::Random;
use crate::crypto::vault::{Vault, VaultError};
use crate::domain::encryption::EncryptionContext;
use crate::process::secret_file::{self, SecretFileError};
use crate::store::contract::SealedValue;
use crate::store::{Store, StoreError, Tables};

/// Values per transaction, and their bytes: it takes a few milliseconds, most of them for its sync.
const BATCH: u32 = 50;
const BATCH_BYTES: usize = 256 * 1024;

/// A rotation rests after a transaction for as long as that took, within these bounds.
const SHORTEST_REST: Duration = Duration::from_millis(2);
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The values cannot be re-encrypted.
#[derive(Debug, thiserror::Error)]
pub enum AtRestError {
    /// The master key cannot be used or changed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// One value cannot be read; the old key is kept until it can, or is gone.
    #[error(
        "{context} cannot be decrypted, so the old key is kept; restore the master.key that it was \
         encrypted with, or let its owner replace it (destroy the app and create it again, enrol \
         one-time codes again)"
    )]
    Unreadable {
        context: EncryptionContext,
        #[source]
        source: VaultError,
    },
    /// Two at once would lose a key.
    #[error("another rotation of the master key is running; wait until it has ended")]
    UnderWay,
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] SecretFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Result of a step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There are two keys now; the new one encrypts.
    Began,
    /// This many values were re-encrypted.
    Renewed(usize),
    /// Nothing is under the old key any more; recorded in the audit log.
    Noted,
    /// The old key is removed.
    Ended,
}

/// A rotation of the master key, step by step. It holds a lock against a second one.
#[derive(Debug)]
pub struct Rotation {
    store: Store,
    vault: Arc<Vault>,
    next: Next,
    _lock: std::fs::File,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Begin,
    Renew,
    End,
}

impl Rotation {
    /// Starts one, or resumes a killed one. `directory`: that of the key file.
    pub fn new(store: Store, vault: Arc<Vault>, directory: &Path) -> Result<Self, AtRestError> {
        let lock = secret_file::lock(&directory.join("master.key.lock"))?;
        let lock = lock.ok_or(AtRestError::UnderWay)?;
        let next = if vault.old_key_id().is_some() { Next::Renew } else { Next::Begin };
        Ok(Self { store, vault, next, _lock: lock })
    }

    /// Whether it resumes an unfinished one.
    pub fn is_resumed(&self) -> bool {
        matches!(self.next, Next::Renew)
    }

    /// Runs the next step; [`Step::Ended`] is the last.
    pub async fn step(&mut self, random: &dyn Random, now: Timestamp) -> Result<Step, AtRestError> {
        match self.next {
            Next::Begin => {
                self.vault.begin_rotation(random)?;
                self.next = Next::Renew;
                Ok(Step::Began)
            }
            Next::Renew => {
                let renewed = renew_some(&self.store, &self.vault).await?;
                if renewed == 0 && note_end(&self.store, &self.vault, now).await? {
                    self.next = Next::End;
                    return Ok(Step::Noted);
                }
                Ok(Step::Renewed(renewed))
            }
            Next::End => {
                self.vault.end_rotation()?;
                Ok(Step::Ended)
            }
        }
    }
}

/// Before a coordinator serves: re-encrypts values of the first form, once. One that cannot be read
/// stays unreadable, and blocks nothing else.
pub async fn settle(store: &Store, vault: &Arc<Vault>) -> Result<(), StoreError> {
    let vault = Arc::clone(vault);
    store
        .write(move |tables| {
            if !tables.has_first_form()? {
                return Ok(());
            }
            for value in tables.sealed_otherwise(&vault.head(), u32::MAX)? {
                match vault.renew(value.context, &value.sealed, true) {
                    Ok(Some(by)) => drop(tables.replace_sealed(&value, &by)?),
                    Ok(None) => {}
                    Err(error) => {
                        let (context, error) = (value.context, chain(&error));
                        tracing::error!(%context, error, "a secret is unreadable");
                    }
                }
            }
            tables.end_first_form()
        })
        .await
}

/// Re-encrypts some values under the current key; returns how many. They are read and encrypted
/// outside the transaction that stores them, which is therefore short; values changed meanwhile are
/// skipped.
///
/// A serving coordinator is another process, and SQLite's lock between processes is not a queue: a
/// process that commits and begins again at once gets it again before the waiting ones have polled.
/// Without a rest after each transaction they waited for hundreds of milliseconds, however short
/// each one was.
async fn renew_some(store: &Store, vault: &Arc<Vault>) -> Result<usize, AtRestError> {
    let head = vault.head();
    let found = store.read_long(move |tables| {
        Ok::<_, StoreError>((tables.sealed_otherwise(&head, BATCH)?, tables.has_first_form()?))
    });
    let (values, first_form) = found.await?;
    let (mut bytes, mut renewed) = (0, Vec::new());
    for value in values {
        if bytes >= BATCH_BYTES {
            break;
        }
        bytes += value.sealed.len();
        if let Some(by) = renew_one(vault, &value, first_form)? {
            renewed.push((value, by));
        }
    }
    if renewed.is_empty() {
        return Ok(0);
    }
    let began = Instant::now();
    let stored: Result<usize, StoreError> = store
        .write(move |tables| {
            for (value, by) in &renewed {
                tables.replace_sealed(value, by)?;
            }
            Ok(renewed.len())
        })
        .await;
    let stored = stored?;
    tokio::time::sleep(began.elapsed().clamp(SHORTEST_REST, LONGEST_REST)).await;
    Ok(stored)
}

/// Records in the audit log that nothing is under the old key any more, in the transaction that
/// verified it; returns whether that is so.
async fn note_end(store: &Store, vault: &Arc<Vault>, now: Timestamp) -> Result<bool, AtRestError> {
    let vault = Arc::clone(vault);
    store
        .write(move |tables| {
            if !tables.sealed_otherwise(&vault.head(), 1)?.is_empty() {
                return Ok(false);
            }
            let details = json!({ "key": vault.key_id(), "old": vault.old_key_id() });
            tables.insert_admin_act("master_key_rotate", now, None, &details)?;
            Ok(true)
        })
        .await
}

/// Re-encrypts up to `most` values under the current key, in a database that nobody else uses;
/// returns how many.
pub(crate) fn renew(
    tables: &mut dyn Tables,
    vault: &Vault,
    most: u32,
) -> Result<usize, AtRestError> {
    let first_form = tables.has_first_form()?;
    let values = tables.sealed_otherwise(&vault.head(), most)?;
    for value in &values {
        if let Some(by) = renew_one(vault, value, first_form)? {
            tables.replace_sealed(value, &by)?;
        }
    }
    Ok(values.len())
}

fn renew_one(
    vault: &Vault,
    SealedValue { context, sealed }: &SealedValue,
    first_form: bool,
) -> Result<Option<Vec<u8>>, AtRestError> {
    let unreadable = |source| AtRestError::Unreadable { context: *context, source };
    vault.renew(*context, sealed, first_form).map_err(unreadable)
}

#[cfg(test)]
mod tests;
