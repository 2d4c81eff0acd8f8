//! One-time codes (RFC 6238), as an authenticator app makes them.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use totp_rs::{Builder, Totp};

use crate::api::Api;

/// Enables one-time codes for the account that `api` is logged in as; returns its app.
pub async fn enroll(api: &Api, email: &str, password: &str) -> anyhow::Result<Totp> {
    let body = json!({ "password": password });
    let begun: Value =
        api.call(Method::POST, "/api/auth/totp/enroll", Some(&body)).await?.expect(200)?;
    let secret = begun["secret"].as_str().context("no secret")?.to_owned();
    let totp = Builder::new()
        .with_secret(totp_rs::Secret::try_from_base32(secret)?)
        .with_account_name(email)
        .build()?;
    let body = json!({ "code": code(&totp, 0)? });
    let reply = api.call(Method::POST, "/api/auth/totp/confirm", Some(&body)).await?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(totp)
}

/// A code that is valid in that many seconds. Each works once, and one was used to enable them.
pub fn code(totp: &Totp, ahead: u64) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a real server goes by real time")]
    let now = jiff::Timestamp::now().as_second();
    Ok(totp.generate(u64::try_from(now)? + ahead).to_string())
}
