//! The second factor: TOTP (RFC 6238) and recovery codes.

use buddo_shared::id::AccountId;
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::HashedToken;

/// An account's TOTP secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotpRow {
    /// The secret, encrypted under the master key.
    pub sealed: Vec<u8>,
    /// When a code of it was first shown; `None`: not yet, so that it counts for nothing.
    pub enabled_at: Option<Timestamp>,
}

/// Access to second factors.
pub trait Factors {
    /// The account's TOTP secret.
    fn totp(&self, account: AccountId) -> Result<Option<TotpRow>>;
    /// Keeps a secret that is not confirmed yet, in the place of one that is not either.
    fn propose_totp(&mut self, account: AccountId, sealed: &[u8]) -> Result<()>;
    /// From now on logins want a code.
    fn enable_totp(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Uses the time step of a code; `false`: a code of this step or a later one was used before.
    fn use_totp_step(&mut self, account: AccountId, step: u64) -> Result<bool>;
    /// Forgets secret and recovery codes.
    fn clear_totp(&mut self, account: AccountId) -> Result<()>;
    /// Replaces the recovery codes.
    fn set_recovery_codes(&mut self, account: AccountId, codes: &[HashedToken]) -> Result<()>;
    /// Takes a recovery code out: it works once. Whether it was one.
    fn use_recovery_code(&mut self, account: AccountId, code: &HashedToken) -> Result<bool>;
    /// How many recovery codes are left.
    fn recovery_codes_left(&self, account: AccountId) -> Result<u32>;
}
