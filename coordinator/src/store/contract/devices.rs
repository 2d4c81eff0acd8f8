//! Devices waiting for a decision in a browser (RFC 8628).

use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use crate::domain::identity::{HashedToken, Scopes};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// Hash of the device code.
    pub hash: HashedToken,
    /// Hash of the user code.
    pub user_hash: HashedToken,
    /// The app on the device.
    pub client_id: String,
    /// The requested scopes.
    pub scopes: Scopes,
    pub expires_at: Timestamp,
    /// Polling interval of the device in seconds.
    pub interval: u32,
    /// When it last polled.
    pub polled_at: Option<Timestamp>,
    /// The person's decision; `None`: not yet.
    pub is_allowed: Option<bool>,
    /// The consent, if it was given.
    pub grant: Option<Uuid>,
    /// When it was exchanged for tokens.
    pub used_at: Option<Timestamp>,
}

/// Access to devices' requests.
pub trait Devices {
    /// How many have not expired by `now`, decided or not.
    fn count_device_codes(&self, now: Timestamp) -> Result<u32>;
    fn insert_device_code(&mut self, code: &DeviceCode) -> Result<()>;
    /// The request with this device code.
    fn device_code(&self, hash: &HashedToken) -> Result<Option<DeviceCode>>;
    /// The request with this user code.
    fn device_code_by_user(&self, user_hash: &HashedToken) -> Result<Option<DeviceCode>>;
    /// Records a poll of the device, and its new interval.
    fn poll_device_code(&mut self, hash: &HashedToken, at: Timestamp, interval: u32) -> Result<()>;
    /// Records the decision: `grant` is the consent, `None` a refusal.
    fn decide_device_code(&mut self, hash: &HashedToken, grant: Option<Uuid>) -> Result<()>;
    /// Records that it was exchanged for tokens.
    fn use_device_code(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()>;
}
