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

use jiff::Timestamp;
use serde_json::json;

use crate::http::problem::chain;
use crate::random::Random;
use crate::secret_file::{self, SecretFileError};
use crate::store::contract::SealedValue;
use crate::store::{Store, StoreError, Tables};
use crate::vault::{Place, Vault, VaultError};

/// Values in one transaction, so that no request waits long for its own.
const BATCH: u32 = 100;

/// The values cannot be encrypted anew.
#[derive(Debug, thiserror::Error)]
pub enum AtRestError {
    /// The master key cannot be used or changed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// One value cannot be read; the old key stays until it can, or is gone.
    #[error(
        "{place} cannot be decrypted, so the old key is kept; restore the master.key that it was \
         encrypted with, or let its owner replace it (deploy anew, enrol one-time codes anew)"
    )]
    Unreadable {
        /// Which.
        place: Place,
        /// Why.
        #[source]
        source: VaultError,
    },
    /// Two at once would lose a key.
    #[error("another rotation of the master key is running; wait until it has ended")]
    UnderWay,
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] SecretFileError),
    /// The database failed.
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
                let renewed = renew_some(&self.store, &self.vault, Some(now)).await?;
                if renewed > 0 {
                    return Ok(Step::Renewed(renewed));
                }
                self.next = Next::End;
                Ok(Step::Noted)
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
            for SealedValue { place, sealed } in tables.sealed_otherwise(&vault.head(), u32::MAX)? {
                match vault.renew(place, &sealed, true) {
                    Ok(Some(sealed)) => tables.replace_sealed(&SealedValue { place, sealed })?,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%place, error = %chain(&error), "a secret is unreadable");
                    }
                }
            }
            tables.end_first_form()
        })
        .await
}

/// Encrypts some values under the current key; how many. Where none was left, and a time is given,
/// the log gets an entry, in the transaction that saw it.
async fn renew_some(
    store: &Store,
    vault: &Arc<Vault>,
    note: Option<Timestamp>,
) -> Result<usize, AtRestError> {
    let vault = Arc::clone(vault);
    store
        .write(move |tables| {
            let renewed = renew(tables, &vault, BATCH)?;
            if let (0, Some(now)) = (renewed, note) {
                let details = json!({ "key": vault.key_id(), "old": vault.old_key_id() });
                tables.insert_admin_act("master_key_rotate", now, None, &details)?;
            }
            Ok(renewed)
        })
        .await
}

/// Encrypts up to `most` values under the current key; how many.
pub(crate) fn renew(
    tables: &mut dyn Tables,
    vault: &Vault,
    most: u32,
) -> Result<usize, AtRestError> {
    let first_form = tables.has_first_form()?;
    let values = tables.sealed_otherwise(&vault.head(), most)?;
    for SealedValue { place, sealed } in &values {
        let place = *place;
        let renewed = vault.renew(place, sealed, first_form);
        let renewed = renewed.map_err(|source| AtRestError::Unreadable { place, source })?;
        if let Some(sealed) = renewed {
            tables.replace_sealed(&SealedValue { place, sealed })?;
        }
    }
    Ok(values.len())
}

#[cfg(test)]
mod tests;
