//! Accounts, and their short-lived records.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::{Email, HashedToken, StoredHash, Username};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    /// Sequential registration number, from 1.
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
    /// Incremented to void all logins.
    pub token_epoch: i64,
    /// Whether its logins require a one-time code.
    pub totp_enabled: bool,
    /// The suspension, if it is suspended.
    pub suspended: Option<Suspension>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Suspension of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    pub since: Timestamp,
    /// The administrator's reason, shown to its owner.
    pub reason: Option<String>,
}

/// An account to create; its other columns have defaults.
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

/// A verification link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailToken {
    /// Hash of the token.
    pub hash: HashedToken,
    pub account: AccountId,
    /// [`Email::key`] of the address that the link was sent to.
    pub email_key: String,
    pub expires_at: Timestamp,
}

/// A browser session on the authorization page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// Hash of the cookie's token.
    pub hash: HashedToken,
    pub account: AccountId,
    /// The account's [`token_epoch`](Account::token_epoch) at that time.
    pub token_epoch: i64,
    pub expires_at: Timestamp,
}

/// Access to accounts. None of these finds a deleted one.
pub trait Accounts {
    /// The account with this id.
    fn account(&self, id: AccountId) -> Result<Option<Account>>;
    /// The account with this address, in any spelling.
    fn account_by_email(&self, email: &Email) -> Result<Option<Account>>;
    /// Whether an account has this name, in any spelling.
    fn is_username_taken(&self, username: &Username) -> Result<bool>;
    /// The account with this referral code.
    fn account_by_referral(&self, code: &str) -> Result<Option<AccountId>>;
    /// Creates an account; returns its registration number.
    fn insert_account(&mut self, account: &NewAccount) -> Result<i64>;
    /// Records that the address is confirmed, unless it already was.
    fn confirm_email(&mut self, id: AccountId, at: Timestamp) -> Result<()>;
    /// Stores a verification link, and keeps at most `keep` of the account in all.
    fn insert_email_token(&mut self, token: &EmailToken, keep: u32) -> Result<()>;
    /// Takes a verification link: it works once.
    fn take_email_token(&mut self, hash: &HashedToken) -> Result<Option<EmailToken>>;
    /// Stores a browser session.
    fn insert_session(&mut self, session: &BrowserSession) -> Result<()>;
    fn session(&self, hash: &HashedToken) -> Result<Option<BrowserSession>>;
    /// Deletes links and sessions that expired by `now`, at most `most` of each; returns how many.
    fn purge_account_tokens(&mut self, now: Timestamp, most: u32) -> Result<usize>;
}
