//! Accounts, and what is only kept for a while on their behalf.

use buddo_shared::id::AccountId;
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::HashedToken;
use crate::domain::identity::StoredHash;
use crate::domain::identity::{Email, Username};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    /// The how-manieth it is, from 1.
    pub registration_number: i64,
    pub email: Email,
    pub username: Username,
    /// Hash of the password.
    pub password: StoredHash,
    /// Code to invite others with.
    pub referral_code: String,
    pub tier: String,
    pub points: i64,
    /// Whether it administers the platform.
    pub is_admin: bool,
    /// When the mail address was confirmed.
    pub email_verified_at: Option<Timestamp>,
    /// Raised to void all logins.
    pub token_epoch: i64,
    /// Whether its logins want a one-time code.
    pub totp_enabled: bool,
    /// Whether it may not act.
    pub suspended: Option<Suspension>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// That an account may not act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    pub since: Timestamp,
    /// Why, in the administrator's words to its owner.
    pub reason: Option<String>,
}

/// An account to be made; the rest of its columns have defaults.
#[derive(Debug, Clone)]
pub struct NewAccount {
    pub id: AccountId,
    pub email: Email,
    pub username: Username,
    /// Hash of the password.
    pub password: StoredHash,
    /// Code to invite others with.
    pub referral_code: String,
    pub referred_by: Option<AccountId>,
    pub created_at: Timestamp,
}

/// What a verification link proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailToken {
    /// Hash of the token.
    pub hash: HashedToken,
    pub account: AccountId,
    /// [`Email::key`] of the address that the link was sent to.
    pub email_key: String,
    pub expires_at: Timestamp,
}

/// A browser that logged in on the authorization page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// Hash of the cookie's token.
    pub hash: HashedToken,
    pub account: AccountId,
    /// The account's [`token_epoch`](Account::token_epoch) then.
    pub token_epoch: i64,
    pub expires_at: Timestamp,
}

/// Access to accounts. One that was deleted is not found by any of these.
pub trait Accounts {
    /// The account with this id.
    fn account(&self, id: AccountId) -> Result<Option<Account>>;
    /// The account with this address, however it is spelt.
    fn account_by_email(&self, email: &Email) -> Result<Option<Account>>;
    /// Whether an account has this name, however it is spelt.
    fn is_username_taken(&self, username: &Username) -> Result<bool>;
    /// The account that invites with this code.
    fn account_by_referral(&self, code: &str) -> Result<Option<AccountId>>;
    /// Makes an account; its registration number.
    fn insert_account(&mut self, account: &NewAccount) -> Result<i64>;
    /// Notes that the address is confirmed, unless it was before.
    fn confirm_email(&mut self, id: AccountId, at: Timestamp) -> Result<()>;
    /// Keeps a verification link, and at most `keep` of the account's in all.
    fn insert_email_token(&mut self, token: &EmailToken, keep: u32) -> Result<()>;
    /// Takes a verification link out: it works once.
    fn take_email_token(&mut self, hash: &HashedToken) -> Result<Option<EmailToken>>;
    /// Keeps a browser's session.
    fn insert_session(&mut self, session: &BrowserSession) -> Result<()>;
    fn session(&self, hash: &HashedToken) -> Result<Option<BrowserSession>>;
    /// Forgets links and sessions that ended by `now`, `most` of each at most; how many.
    fn purge_account_tokens(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
