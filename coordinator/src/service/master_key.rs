//! Rotation of the master key, and what else is done to all encrypted values at once.
//!
//! ```text
//! rotate ─► file: new key and old ─► values, some at a time ─► none is left: audit ─► file: new key
//! ```
//!
//! Each step is durable before the next one begins, and how far it went shows in file and database
//! alone: a rotation that was killed goes on where it was when it is asked for again. A coordinator
//! may serve meanwhile.

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

/// Values in one transaction, and their bytes: it takes a few milliseconds, most of them for its sync.
const BATCH: u32 = 50;
const BATCH_BYTES: usize = 256 * 1024;

/// A rotation rests after a transaction for as long as that took, but no less and no longer than this.
const SHORTEST_REST: Duration = Duration::from_millis(2);
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The values cannot be encrypted anew.
#[derive(Debug, thiserror::Error)]
pub enum AtRestError {
    /// The master key cannot be used or changed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// One value cannot be read; the old key stays until it can, or is gone.
    #[error(
        "{place} cannot be decrypted, so the old key is kept; restore the master.key that it was \
         encrypted with, or let its owner replace it (destroy the app and create it again, enrol \
         one-time codes again)"
    )]
    Unreadable {
        place: EncryptionContext,
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

/// What a step of a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There are two keys now, and the new one encrypts.
    Began,
    /// So many values are under the new key.
    Renewed(usize),
    /// Nothing is under the old key any more, and the log says so.
    Noted,
    /// The old key is gone.
    Ended,
}

/// A rotation of the master key, step by step. None other runs while it lives.
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
    /// Begins one, or goes on with one that was killed. `directory`: that of the key's file.
    pub fn new(store: Store, vault: Arc<Vault>, directory: &Path) -> Result<Self, AtRestError> {
        let lock = secret_file::lock(&directory.join("master.key.lock"))?;
        let lock = lock.ok_or(AtRestError::UnderWay)?;
        let next = if vault.old_key_id().is_some() { Next::Renew } else { Next::Begin };
        Ok(Self { store, vault, next, _lock: lock })
    }

    /// Whether an earlier one was not ended.
    pub fn is_resumed(&self) -> bool {
        matches!(self.next, Next::Renew)
    }

    /// Does the next step; after [`Step::Ended`] there is none.
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

/// Before a coordinator serves: values of the first form get the present one, once. One that
/// cannot be read stays unreadable, and holds up nothing else.
pub async fn settle(store: &Store, vault: &Arc<Vault>) -> Result<(), StoreError> {
    let vault = Arc::clone(vault);
    store
        .write(move |tables| {
            if !tables.has_first_form()? {
                return Ok(());
            }
            for value in tables.sealed_otherwise(&vault.head(), u32::MAX)? {
                match vault.renew(value.place, &value.sealed, true) {
                    Ok(Some(by)) => drop(tables.replace_sealed(&value, &by)?),
                    Ok(None) => {}
                    Err(error) => {
                        let (place, error) = (value.place, chain(&error));
                        tracing::error!(%place, error, "a secret is unreadable");
                    }
                }
            }
            tables.end_first_form()
        })
        .await
}

/// Encrypts some values under the current key; how many. They are read and encrypted outside of the
/// transaction that stores them, which therefore ends soon; what changed meanwhile is left as it is.
///
/// A coordinator that serves is another process, and SQLite's lock between processes is not a queue:
/// whoever commits and begins again at once has it again before those who wait have looked. Without a
/// rest after each transaction they waited for hundreds of milliseconds, however short each one was.
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

/// Notes in the log that nothing is under the old key any more, in the transaction that saw it;
/// whether that is so.
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

/// Encrypts up to `most` values under the current key, in a database that nobody else uses; how
/// many.
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
    SealedValue { place, sealed }: &SealedValue,
    first_form: bool,
) -> Result<Option<Vec<u8>>, AtRestError> {
    let unreadable = |source| AtRestError::Unreadable { place: *place, source };
    vault.renew(*place, sealed, first_form).map_err(unreadable)
}

#[cfg(test)]
mod tests;
