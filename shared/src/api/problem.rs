//! Errors as `application/problem+json` (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem, and leads to what the documentation says of it.
    #[schema(
        format = "uri-reference",
        example = "https://api.buddo.xyz/docs/errors#validation_failed"
    )]
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    #[schema(example = "Some fields are not valid")]
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 422)]
    pub status: u16,
    /// What is wrong here and what to do.
    #[schema(example = "port is 0; use 1 to 65535")]
    pub detail: String,
    /// A stable word for programs.
    #[schema(pattern = "^[a-z_]+$", example = "validation_failed")]
    pub code: String,
    /// The same words as `detail`, for clients of the Deployments API.
    #[schema(example = "port is 0; use 1 to 65535")]
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
            kind: format!("/docs/errors#{code}"),
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where it is (RFC 6901), such as `/subdomain`.
    #[schema(format = "json-pointer", example = "/port")]
    pub pointer: String,
    /// What is wrong with it and what to write instead.
    #[schema(example = "is 0; use 1 to 65535")]
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self { pointer: pointer.into(), detail: detail.to_string() }
    }
}
