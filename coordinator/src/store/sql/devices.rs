//! Devices waiting for a decision.

use jiff::Timestamp;
use uuid::Uuid;

use super::column::{get, hash, millis, opt_millis, opt_parsed, opt_time, parsed, text, time};
use super::{Row, Tx, params};
use crate::domain::identity::HashedToken;
use crate::store::contract::{DeviceCode, Devices, Result};

impl Devices for Tx<'_> {
    fn count_device_codes(&self, now: Timestamp) -> Result<u32> {
        let sql = "SELECT count(*) AS number FROM oauth_device_codes WHERE expires_at > ?1";
        let number = self.first("count devices", sql, [millis(now)], |row| get(row, "number"))?;
        Ok(number.unwrap_or_default())
    }

    fn insert_device_code(&mut self, code: &DeviceCode) -> Result<()> {
        let sql = "INSERT INTO oauth_device_codes (hash, user_hash, client_id, scopes, expires_at,
                       interval_s, polled_at, is_allowed, grant_id, used_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let params = params![
            code.hash.as_bytes(),
            code.user_hash.as_bytes(),
            code.client_id,
            text(&code.scopes),
            millis(code.expires_at),
            code.interval,
            opt_millis(code.polled_at),
            code.is_allowed,
            code.grant.as_ref().map(text),
            opt_millis(code.used_at),
        ];
        self.run("store a device's request", sql, params).map(drop)
    }

    fn device_code(&self, hash: &HashedToken) -> Result<Option<DeviceCode>> {
        let sql = "SELECT * FROM oauth_device_codes WHERE hash = ?1";
        self.first("look up a device's request", sql, [hash.as_bytes()], read)
    }

    fn device_code_by_user(&self, user_hash: &HashedToken) -> Result<Option<DeviceCode>> {
        let sql = "SELECT * FROM oauth_device_codes WHERE user_hash = ?1";
        self.first("look up a device's request", sql, [user_hash.as_bytes()], read)
    }

    fn poll_device_code(&mut self, hash: &HashedToken, at: Timestamp, interval: u32) -> Result<()> {
        let sql = "UPDATE oauth_device_codes SET polled_at = ?2, interval_s = ?3 WHERE hash = ?1";
        let params = params![hash.as_bytes(), millis(at), interval];
        self.run("record a poll of a device", sql, params).map(drop)
    }

    fn decide_device_code(&mut self, hash: &HashedToken, grant: Option<Uuid>) -> Result<()> {
        let sql = "UPDATE oauth_device_codes SET is_allowed = ?2, grant_id = ?3 WHERE hash = ?1";
        let params = params![hash.as_bytes(), grant.is_some(), grant.as_ref().map(text)];
        self.run("record a decision on a device", sql, params).map(drop)
    }

    fn use_device_code(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()> {
        let sql = "UPDATE oauth_device_codes SET used_at = ?2 WHERE hash = ?1";
        self.run("use a device code", sql, params![hash.as_bytes(), millis(at)]).map(drop)
    }
}

fn read(row: &Row<'_>) -> Result<DeviceCode> {
    Ok(DeviceCode {
        hash: hash(row, "hash")?,
        user_hash: hash(row, "user_hash")?,
        client_id: get(row, "client_id")?,
        scopes: parsed(row, "scopes")?,
        expires_at: time(row, "expires_at")?,
        interval: get(row, "interval_s")?,
        polled_at: opt_time(row, "polled_at")?,
        is_allowed: get(row, "is_allowed")?,
        grant: opt_parsed(row, "grant_id")?,
        used_at: opt_time(row, "used_at")?,
    })
}
