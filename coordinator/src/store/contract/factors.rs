//! The second factor: TOTP (RFC 6238) and recovery codes.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::HashedToken;

/// An account's TOTP secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotpRow {
    /// The secret, encrypted under the master key.
    pub sealed: Vec<u8>,
    /// When a code of it was first confirmed; `None`: not yet, so it has no effect.
    pub enabled_at: Option<Timestamp>,
}

/// Access to second factors.
pub trait Factors {
    /// The account's TOTP secret.
    fn totp(&self, account: AccountId) -> Result<Option<TotpRow>>;
    /// Stores an unconfirmed secret, replacing an earlier unconfirmed one.
    fn propose_totp(&mut self, account: AccountId, sealed: &[u8]) -> Result<()>;
    /// From now on logins require a code.
    fn enable_totp(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Uses the time step of a code; `false`: a code of this step or a later one was already used.
    fn use_totp_step(&mut self, account: AccountId, step: u64) -> Result<bool>;
    /// Deletes secret and recovery codes.
    fn clear_totp(&mut self, account: AccountId) -> Result<()>;
    /// Replaces the recovery codes.
    fn set_recovery_codes(&mut self, account: AccountId, codes: &[HashedToken]) -> Result<()>;
    /// Takes a recovery code: it works once. Returns whether it was valid.
    fn use_recovery_code(&mut self, account: AccountId, code: &HashedToken) -> Result<bool>;
    /// How many recovery codes are left.
    fn recovery_codes_left(&self, account: AccountId) -> Result<u32>;
}
