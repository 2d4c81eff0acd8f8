//! Devices that wait for somebody to decide in a browser (RFC 8628).

use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use crate::domain::identity::HashedToken;
use crate::domain::identity::Scopes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// Hash of the code that the device holds.
    pub hash: HashedToken,
    /// Hash of the code that the person types.
    pub user_hash: HashedToken,
    /// Which app runs on it.
    pub client_id: String,
    /// What it asks for.
    pub scopes: Scopes,
    pub expires_at: Timestamp,
    /// Seconds that the device has to leave between two questions.
    pub interval: u32,
    /// When it asked last.
    pub polled_at: Option<Timestamp>,
    /// What the person decided; `None`: nothing yet.
    pub is_allowed: Option<bool>,
    /// The consent, where it was allowed.
    pub grant: Option<Uuid>,
    /// When it was exchanged for tokens.
    pub used_at: Option<Timestamp>,
}

/// Access to devices' requests.
pub trait Devices {
    /// How many have not ended by `now`, decided or not.
    fn count_device_codes(&self, now: Timestamp) -> Result<u32>;
    fn insert_device_code(&mut self, code: &DeviceCode) -> Result<()>;
    /// The request of the device with this code.
    fn device_code(&self, hash: &HashedToken) -> Result<Option<DeviceCode>>;
    /// The request that the person was told this code of.
    fn device_code_by_user(&self, user_hash: &HashedToken) -> Result<Option<DeviceCode>>;
    /// Notes that the device asked, and how long it has to wait from now on.
    fn poll_device_code(&mut self, hash: &HashedToken, at: Timestamp, interval: u32) -> Result<()>;
    /// Notes what the person decided: `grant` is the consent, `None` a no.
    fn decide_device_code(&mut self, hash: &HashedToken, grant: Option<Uuid>) -> Result<()>;
    /// Notes that it was exchanged for tokens.
    fn use_device_code(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()>;
}
