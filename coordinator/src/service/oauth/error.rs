//! Refusals of the token endpoint and its siblings (RFC 6749, 5.2).

use crate::store::StoreError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// A parameter is missing, repeated or malformed.
    InvalidRequest,
    /// The client is unknown or did not authenticate.
    InvalidClient,
    /// The code or token is wrong, used, expired, revoked or another client's.
    InvalidGrant,
    /// The client may not use this grant type.
    UnauthorizedClient,
    /// The grant type is unknown here.
    UnsupportedGrantType,
    /// The scope is unknown or more than was granted.
    InvalidScope,
    /// Nobody has decided on the device yet (RFC 8628, 3.5).
    AuthorizationPending,
    /// The same, and the device polls too often: 5 seconds more between polls.
    SlowDown,
    /// The account's owner refused.
    AccessDenied,
    /// The device code has expired.
    ExpiredToken,
}

impl ErrorCode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
        }
    }
}

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The request is refused; the text says what to do.
    #[error("{1}")]
    Refused(ErrorCode, &'static str),
    /// Too many devices are waiting.
    #[error("too many devices wait to be connected at this moment; try again in a minute")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A suspended account gets no tokens; what it has is kept until it is resumed.
pub(super) const SUSPENDED: TokenError =
    TokenError::grant("the account is suspended; its owner has to ask the platform's operator");

impl TokenError {
    /// 400 `invalid_request`.
    pub const fn request(description: &'static str) -> Self {
        Self::Refused(ErrorCode::InvalidRequest, description)
    }

    /// 401 `invalid_client`.
    pub const fn client(description: &'static str) -> Self {
        Self::Refused(ErrorCode::InvalidClient, description)
    }

    /// 400 `invalid_grant`.
    pub const fn grant(description: &'static str) -> Self {
        Self::Refused(ErrorCode::InvalidGrant, description)
    }

    /// 400 `invalid_scope`.
    pub const fn scope(description: &'static str) -> Self {
        Self::Refused(ErrorCode::InvalidScope, description)
    }
}
