//! Values encrypted under the master key.

use buddo_shared::model::id::Revision;

use super::column::{get, parsed, text};
use super::{Tx, params};
use crate::domain::encryption::{EncryptionContext, HEAD};
use crate::store::contract::{Result, SealedValue, SealedValues};

/// Every column with such values. A new one must be added here, or a rotation of the master key
/// would miss it.
///
/// Both search an index on both sides of the head, so that what is under the current key costs
/// nothing: `<>` would read all of it again for each batch.
const TOTP: [&str; 2] = [
    "SELECT id, totp_secret AS sealed FROM accounts
     WHERE totp_secret IS NOT NULL AND substr(totp_secret, 1, 12) < ?1 LIMIT ?2",
    "SELECT id, totp_secret AS sealed FROM accounts
     WHERE totp_secret IS NOT NULL AND substr(totp_secret, 1, 12) > ?1 LIMIT ?2",
];
const ENVIRONMENTS: [&str; 2] = [
    "SELECT deployment_id, revision, name, env AS sealed FROM services
     WHERE env IS NOT NULL AND substr(env, 1, 12) < ?1 LIMIT ?2",
    "SELECT deployment_id, revision, name, env AS sealed FROM services
     WHERE env IS NOT NULL AND substr(env, 1, 12) > ?1 LIMIT ?2",
];

impl SealedValues for Tx<'_> {
    fn sealed_otherwise(&self, head: &[u8; HEAD], limit: u32) -> Result<Vec<SealedValue>> {
        let operation = "list encrypted values";
        let mut values = Vec::new();
        let left =
            |values: &Vec<_>| limit.saturating_sub(u32::try_from(values.len()).unwrap_or(limit));
        for sql in TOTP {
            values.extend(self.all(operation, sql, params![head, left(&values)], |row| {
                Ok(SealedValue {
                    context: EncryptionContext::TotpSecret(parsed(row, "id")?),
                    sealed: get(row, "sealed")?,
                })
            })?);
        }
        for sql in ENVIRONMENTS {
            values.extend(self.all(operation, sql, params![head, left(&values)], |row| {
                let number = Revision::new(get(row, "revision")?);
                let (id, service) = (parsed(row, "deployment_id")?, parsed(row, "name")?);
                Ok(SealedValue {
                    context: EncryptionContext::Environment(id, number, service),
                    sealed: get(row, "sealed")?,
                })
            })?);
        }
        Ok(values)
    }

    fn replace_sealed(&mut self, value: &SealedValue, by: &[u8]) -> Result<bool> {
        let operation = "replace an encrypted value";
        let sealed = &value.sealed;
        let rows = match value.context {
            EncryptionContext::TotpSecret(account) => {
                let sql = "UPDATE accounts SET totp_secret = ?2 WHERE id = ?1 AND totp_secret = ?3";
                self.run(operation, sql, params![text(&account), by, sealed])
            }
            EncryptionContext::Environment(id, number, service) => {
                let sql = "UPDATE services SET env = ?4
                           WHERE deployment_id = ?1 AND revision = ?2 AND name = ?3 AND env = ?5";
                let params = params![text(&id), number.get(), text(&service), by, sealed];
                self.run(operation, sql, params)
            }
        };
        rows.map(|rows| rows > 0)
    }

    fn has_first_form(&self) -> Result<bool> {
        let sql = "SELECT value FROM meta WHERE key = 'sealed_form'";
        let form = self
            .first("read the form of encrypted values", sql, [], |row| get::<i64>(row, "value"))?;
        Ok(form == Some(1))
    }

    fn end_first_form(&mut self) -> Result<()> {
        let sql = "UPDATE meta SET value = 2 WHERE key = 'sealed_form'";
        self.run("record the form of encrypted values", sql, []).map(drop)
    }
}
