//! Queries and forms, refused with problems like everywhere else.

use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::problem::{self, ApiError};

/// A request's query, parsed; an unreadable one is a 400.
#[derive(Debug)]
pub(crate) struct ApiQuery<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        // The rejection quotes the input, which may contain a token.
        let malformed = |_: QueryRejection| {
            let detail = "the query cannot be read; send each parameter once, in UTF-8";
            ApiError::new(problem::INVALID_REQUEST, detail)
        };
        query.map(|Query(value)| Self(value)).map_err(malformed)
    }
}

/// A form sent by a browser, parsed. Refuses another content type (415), more bytes than the API
/// reads (413), and missing or repeated fields (422).
#[derive(Debug)]
pub(crate) struct ApiForm<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiForm<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Form(value) = Form::<T>::from_request(request, state).await.map_err(refusal)?;
        Ok(Self(value))
    }
}

fn refusal(rejection: FormRejection) -> ApiError {
    match rejection {
        FormRejection::InvalidFormContentType(_) => {
            let detail = "send the form as application/x-www-form-urlencoded";
            ApiError::new(problem::UNSUPPORTED_MEDIA_TYPE, detail)
        }
        FormRejection::BytesRejection(error) if error.status().as_u16() == 413 => {
            ApiError::new(problem::PAYLOAD_TOO_LARGE, "the form is too large; send less")
        }
        FormRejection::BytesRejection(_) => {
            ApiError::new(problem::INVALID_REQUEST, "the form ended early; send it whole")
        }
        _ => {
            let detail = "the form cannot be read; open its page again and send that";
            ApiError::new(problem::VALIDATION_FAILED, detail)
        }
    }
}
