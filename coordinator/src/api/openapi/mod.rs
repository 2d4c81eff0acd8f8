//! The API's OpenAPI 3.1 document: the annotations of the handlers, completed with what is true of
//! every operation.
//!
//! ```text
//! #[utoipa::path] + routes!(…) ─► OpenApiRouter ─► complete ─► /.well-known/openapi.json
//!                                                           └─► /docs
//! ```
//!
//! A response of status 400 or more without its own body is a problem (RFC 9457); its description
//! names the codes. Codes that any operation may answer are added here, depending on what the
//! operation takes: a body, a token.

mod complete;
mod schemes;

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use utoipa::openapi::OpenApi;

/// Built on first use: most test processes never need it.
type Lazy<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

/// The document of one router.
pub struct Document {
    value: Arc<Lazy<Value>>,
    text: Lazy<Bytes>,
}

impl Document {
    /// The document of a server reached at `url`.
    pub(super) fn new(api: impl FnOnce() -> OpenApi + Send + 'static, url: String) -> Self {
        let make = move || complete::complete(&api(), &url);
        let value: Arc<Lazy<Value>> = Arc::new(LazyLock::new(Box::new(make)));
        let source = Arc::clone(&value);
        let text = move || Bytes::from(serde_json::to_vec(&**source).unwrap_or_default());
        Self { value, text: LazyLock::new(Box::new(text)) }
    }

    /// The document.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }
}

/// This document
///
/// Written from the same sources as the server's routes. It may be kept for five minutes.
#[utoipa::path(
    get,
    path = "/.well-known/openapi.json",
    operation_id = "openapi",
    tag = "server",
    responses((
        status = 200,
        body = std::collections::BTreeMap<String, Value>,
        description = "OpenAPI 3.1"
    ))
)]
pub(super) async fn show(Extension(document): Extension<Arc<Document>>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, document.text.clone()).into_response()
}

#[cfg(test)]
mod tests;
