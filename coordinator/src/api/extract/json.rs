//! The JSON body of a request, with refusals that name the field and the fix.

mod mismatch;

use axum::extract::{FromRequest, OptionalFromRequest, Request};
use buddo_shared::api::problem::FieldError;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

use self::mismatch::Mismatch;
use crate::api::problem::{self, ApiError};

/// Maximum size of a request body in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// A request body, parsed. Refuses another content type (415), more than [`MAX_BODY`] bytes
/// (413), text that is not JSON (400), and a field that is unknown, missing or of another type
/// (422 with a pointer, RFC 6901).
#[derive(Debug, Clone, Default)]
pub struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        parse(&read_body(request, state).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    /// `None`: the request has no body, no matter which content type it declares.
    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let headers = request.headers().clone();
        let body = read_body(request, state).await?;
        if body.is_empty() {
            return Ok(None);
        }
        check_type(&headers)?;
        parse(&body).map(|value| Some(Self(value)))
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_json(headers) {
        return Ok(());
    }
    let detail = "send the body as JSON, with the header Content-Type: application/json";
    Err(ApiError::new(problem::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// The whole body, if it has at most [`MAX_BODY`] bytes.
pub(crate) async fn read_body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!("the body has more than {MAX_BODY} bytes; send less");
        ApiError::new(problem::PAYLOAD_TOO_LARGE, detail)
    };
    let body = Bytes::from_request(request, state).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return too_large();
        }
        let detail = "the body ended early; send it whole";
        ApiError::new(problem::INVALID_REQUEST, detail)
    })?;
    if body.len() > MAX_BODY { Err(too_large()) } else { Ok(body) }
}

/// Whether the content type is `application/json` or another `+json`.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Parses a body that is a JSON object.
pub(in crate::api) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    // Serde stops at the first bad field and accepts an array for a struct, so the text as a whole
    // is checked first: that it is JSON, then an object, then its fields.
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    if parsed.is_err() || !is_object {
        serde_json::from_slice::<IgnoredAny>(body).map_err(|error| malformed(&error))?;
    }
    if !is_object {
        let detail = "the body must be a JSON object, such as {\"name\": \"value\"}";
        return Err(ApiError::new(problem::VALIDATION_FAILED, detail));
    }
    let value = parsed.map_err(|error| refusal::<T>(body, &error))?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let detail = format!("the body is not JSON: mistake at line {line}, column {column}");
    ApiError::new(problem::MALFORMED_JSON, detail)
}

fn refusal<T: DeserializeOwned>(
    body: &[u8],
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> ApiError {
    if !error.inner().is_data() {
        return malformed(error.inner());
    }
    let (path, mismatch) =
        mismatch::find::<T>(body).unwrap_or_else(|| (error.path().clone(), Mismatch::Repeated));
    let pointer = match &mismatch {
        Mismatch::UnknownField { field, .. } => child(&path, field, true),
        Mismatch::MissingField(field) => child(&path, field, false),
        _ => pointer(&path),
    };
    ApiError::invalid([FieldError::new(pointer, mismatch)])
}

/// The pointer to the member `name`; for an unknown field, serde's path already ends with it.
fn child(path: &Path, name: &str, in_path: bool) -> String {
    let parent = pointer(path);
    let step = format!("/{}", escape(name));
    if in_path && parent.ends_with(&step) { parent } else { parent + &step }
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&escape(key)),
            Segment::Enum { variant } => pointer.push_str(&escape(variant)),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use buddo_shared::api::auth::Register;
    use buddo_shared::api::deploy::CreateDeployment;
    use buddo_shared::api::problem::Problem;
    use rstest::rstest;

    use super::*;

    async fn extract(content_type: &str, body: impl Into<Body>) -> Result<(), Problem> {
        let request =
            Request::builder().header(CONTENT_TYPE, content_type).body(body.into()).unwrap();
        let result =
            <ApiJson<CreateDeployment> as FromRequest<_>>::from_request(request, &()).await;
        result.map(drop).map_err(|error| error.problem().clone())
    }

    #[rstest]
    #[case::number_for_text(r#"{"subdomain": 7}"#, "/subdomain", "send a string")]
    #[case::text_for_number(r#"{"port": "80"}"#, "/port", "send i64")]
    #[case::nested(r#"{"env_vars": {"a/b": 1}}"#, "/env_vars/a~1b", "send a string")]
    #[case::unknown(r#"{"colour": "red"}"#, "/colour", "`subdomain`")]
    #[tokio::test]
    async fn a_wrong_field_is_named(#[case] body: &str, #[case] at: &str, #[case] fix: &str) {
        let problem = extract("application/json", body.to_owned()).await.unwrap_err();
        assert_eq!(problem.status, 422, "{problem:?}");
        assert_eq!(problem.errors[0].pointer, at);
        assert!(problem.detail.contains(fix), "{problem:?}");
    }

    #[tokio::test]
    async fn malformed_json_is_400() {
        for body in ["", "{", "{\"a\": }", "{} {}", "\u{feff}{}"] {
            let problem = extract("application/json", body).await.unwrap_err();
            assert_eq!((problem.status, problem.code.as_str()), (400, "malformed_json"), "{body}");
        }
        // Deeper than the parser goes: refused, not a stack overflow.
        let deep = format!("{{\"env_vars\":{}", "[".repeat(10_000));
        assert!(extract("application/json", deep).await.is_err());
    }

    #[tokio::test]
    async fn more_than_a_mebibyte_is_413() {
        let body = format!(r#"{{"subdomain": "{}"}}"#, "a".repeat(10 * MAX_BODY));
        let problem = extract("application/json", body).await.unwrap_err();
        assert_eq!((problem.status, problem.code.as_str()), (413, "payload_too_large"));
    }

    #[tokio::test]
    async fn another_content_type_is_415() {
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "jsonp"] {
            assert_eq!(extract(content_type, "{}").await.unwrap_err().status, 415);
        }
        extract("Application/JSON; charset=utf-8", "{}").await.unwrap();
        extract("application/merge-patch+json", "{}").await.unwrap();
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = parse::<Register>(br#"{"email": "a@b.example"}"#).unwrap_err();
        assert_eq!(error.problem().errors[0].pointer, "/username");
        assert!(error.problem().detail.contains("required"));
    }

    #[test]
    fn submitted_values_are_not_echoed_in_errors() {
        let error = parse::<Register>(br#"{"email": 1, "password": "canary-9"}"#).unwrap_err();
        assert!(!error.problem().detail.contains("canary"));
        let error = parse::<CreateDeployment>(br#"{"port": "canary-9"}"#).unwrap_err();
        assert!(!error.problem().detail.contains("canary"), "{error:?}");
    }

    #[test]
    fn a_member_that_is_given_twice_is_refused() {
        let body = br#"{"subdomain": "a", "subdomain": "b"}"#;
        let error = parse::<CreateDeployment>(body).unwrap_err();
        assert!(error.problem().detail.contains("more than once"), "{error:?}");
    }

    #[test]
    fn a_body_that_is_not_an_object_is_422() {
        for body in ["[]", "7", "\"text\"", "null"] {
            let error = parse::<CreateDeployment>(body.as_bytes()).unwrap_err();
            assert_eq!(error.problem().status, 422, "{body}");
        }
    }
}
