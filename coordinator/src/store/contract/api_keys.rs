//! API keys of teams.

use buddo_shared::model::id::{AccountId, ApiKeyId, TeamId};
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::{HashedToken, KeyScopes};

/// An API key. Revoked keys are deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    pub id: ApiKeyId,
    /// Hash of the key.
    pub hash: HashedToken,
    /// The team that it gives access to.
    pub team: TeamId,
    pub account: AccountId,
    /// Its purpose, for people.
    pub name: String,
    pub hint: String,
    /// What it may do.
    pub scopes: KeyScopes,
    /// When it was made.
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it was last used, to within some minutes.
    pub last_used_at: Option<Timestamp>,
}

/// Access to API keys.
pub trait ApiKeys {
    fn insert_api_key(&mut self, key: &ApiKeyRow) -> Result<()>;
    /// The key with this hash.
    fn api_key_by_hash(&self, hash: &HashedToken) -> Result<Option<ApiKeyRow>>;
    /// The team's key with this id.
    fn api_key(&self, team: TeamId, id: ApiKeyId) -> Result<Option<ApiKeyRow>>;
    /// The team's keys, newest first, expired ones included.
    fn api_keys_of(&self, team: TeamId) -> Result<Vec<ApiKeyRow>>;
    /// How many keys of the team are valid at `now`.
    fn count_api_keys(&self, team: TeamId, now: Timestamp) -> Result<u32>;
    /// Records that a key was used.
    fn touch_api_key(&mut self, id: ApiKeyId, at: Timestamp) -> Result<()>;
    /// Deletes a key; returns whether it existed.
    fn drop_api_key(&mut self, id: ApiKeyId) -> Result<bool>;
    /// Deletes the keys that the account made in the team; returns how many.
    fn drop_api_keys_by(&mut self, team: TeamId, account: AccountId) -> Result<usize>;
    /// Deletes keys that expired by `until`, at most `most`; returns how many.
    fn purge_api_keys(&mut self, until: Timestamp, most: u32) -> Result<usize>;
}
