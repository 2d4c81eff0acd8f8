//! Errors as `application/problem+json` (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem: `https://buddo.xyz/problems/` and the `code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here and what to do.
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// The same words as `detail`, for clients of the Deployments API.
    pub error: String,
    /// For invalid input: every bad field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Set where the account wants a one-time code with its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp_required: Option<bool>,
    /// The request's id, as in the `X-Request-Id` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem of kind `code`.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind: format!("https://buddo.xyz/problems/{code}"),
            title: title.to_owned(),
            status,
            error: detail.clone(),
            detail,
            code: code.to_owned(),
            errors: Vec::new(),
            totp_required: None,
            request_id: None,
        }
    }
}

/// One bad field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Where it is (RFC 6901), such as `/subdomain`.
    pub pointer: String,
    /// What is wrong with it and what to write instead.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self { pointer: pointer.into(), detail: detail.to_string() }
    }
}
