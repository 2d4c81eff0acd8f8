//! What can go wrong between a call and its answer.

use std::error::Error;
use std::time::Duration;

use buddo_shared::api::oauth::OAuthError;
use buddo_shared::api::problem::Problem;

use crate::session::SessionError;

/// Why a call produced no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The HTTP client cannot be created.
    #[error("cannot set up the connection to the API")]
    Setup(#[source] reqwest::Error),
    /// The file of extra root certificates is not PEM.
    #[error("the file of --ca has no PEM certificate that can be used")]
    Ca(#[source] Option<reqwest::Error>),
    /// The server's certificate is not trusted.
    #[error("cannot trust the certificate of {url}")]
    Certificate {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// No connection: nothing was sent.
    #[error("cannot connect to {url}")]
    Connect {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke during the request: the request may or may not have been carried out.
    #[error("lost the connection to {url}")]
    Broken {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time: the request may or may not have been carried out.
    #[error("{url} did not answer within {} s", .after.as_secs())]
    Timeout { url: String, after: Duration },
    /// The API refused, with a reason.
    #[error("{}", .problem.detail)]
    Problem {
        problem: Box<Problem>,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The token endpoint refused, with a reason.
    #[error("{}", .error.error_description)]
    OAuth { status: u16, error: OAuthError },
    /// Something other than the API answered.
    #[error("{url} answered {status}, but not in the API's format")]
    Unexpected {
        url: String,
        status: u16,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The server redirects; tokens do not follow.
    #[error("{url} redirects to {to}")]
    Redirect { url: String, to: String },
    /// A success status with a body that is not the API's.
    #[error("cannot understand the answer of {url}")]
    Decode {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    /// The answer is longer than any answer of the API.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLong { url: String, limit: usize },
    /// There is no session.
    #[error("not logged in to {url}")]
    NotLoggedIn { url: String },
    /// There is an API key but no session, and a session is required.
    #[error("an API key is only for deployments, and nobody is logged in to {url}")]
    KeyAlone { url: String },
    /// The API does not accept the API key.
    #[error("{}", .problem.detail)]
    KeyRefused { problem: Box<Problem> },
    /// The API ended the session.
    #[error("the login at {url} has ended")]
    SessionEnded { url: String },
    /// The stored sessions cannot be used.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl ClientError {
    /// Whether nothing was sent, so that any request may be repeated.
    pub(super) fn is_before_sending(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Whether the failure is the API's or the network's and may be temporary.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. } => true,
            // A full platform does not become free while somebody waits at a prompt.
            Self::Problem { problem, .. } => {
                let is_full = matches!(&*problem.code, "no_capacity" | "no_host_available");
                !is_full && is_server_trouble(problem.status)
            }
            Self::Unexpected { status, .. } => is_server_trouble(*status),
            _ => false,
        }
    }

    /// How long the API asks us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem { retry_after, .. } | Self::Unexpected { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// The HTTP status, if there was an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Problem { problem, .. } | Self::KeyRefused { problem } => Some(problem.status),
            Self::OAuth { status, .. } | Self::Unexpected { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// 500 is a bug and 501 is permanent; the others are temporary.
fn is_server_trouble(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// Classifies reqwest errors: whether anything was sent, and whether a certificate was the cause.
pub(super) fn classify(error: reqwest::Error, url: &str, after: Duration) -> ClientError {
    // The address is in our message; theirs may contain ids.
    let source = error.without_url();
    let url = url.to_owned();
    if source.is_timeout() && !source.is_connect() {
        ClientError::Timeout { url, after }
    } else if is_certificate(&source) {
        ClientError::Certificate { url, source }
    } else if source.is_connect() {
        ClientError::Connect { url, source }
    } else {
        ClientError::Broken { url, source }
    }
}

fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        // An io::Error's source() is its inner error's source, not the inner error.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
