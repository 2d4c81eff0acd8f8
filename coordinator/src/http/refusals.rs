//! Refusals of use cases, and failures of the database, as problems.

use http::HeaderValue;
use http::header::RETRY_AFTER;

use crate::domain::history::NoReturn;
use crate::http::problem::{self, ApiError};
use crate::service::deployments::DeployError;
use crate::service::hosts::HostError;
use crate::store::StoreError;

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let kind = match error {
            DeployError::Invalid(errors) => return Self::invalid(errors),
            DeployError::Store(error) => return error.into(),
            DeployError::Vault(_) | DeployError::Answer(_) => return Self::internal(&error),
            DeployError::TierNotFound(_) => problem::TIER_NOT_FOUND,
            DeployError::NotFound => problem::NOT_FOUND,
            DeployError::Forbidden => problem::FORBIDDEN,
            DeployError::LimitReached { .. } => problem::DEPLOYMENT_LIMIT_REACHED,
            DeployError::NoRoom(_) => problem::NO_CAPACITY,
            DeployError::NoReturn(NoReturn::Unknown(_) | NoReturn::Forgotten(_)) => {
                problem::REVISION_NOT_FOUND
            }
            DeployError::Illegal(_) | DeployError::NoReturn(_) => problem::ILLEGAL_STATE,
            DeployError::KeyReused => problem::IDEMPOTENCY_KEY_REUSED,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::new(problem::OVERLOADED, error.to_string())
                .with_header(RETRY_AFTER, HeaderValue::from_static("1")),
            StoreError::Full { .. } => {
                tracing::error!(%error, "the disk is full; free space where the database lies");
                Self::new(problem::STORAGE_FULL, "nothing was changed; try again in a minute")
                    .with_header(RETRY_AFTER, HeaderValue::from_static("60"))
            }
            error => Self::internal(&error),
        }
    }
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Token => {
                tracing::warn!("a join was refused: its token is unknown, used or expired");
                Self::new(problem::INVALID_TOKEN, error.to_string())
            }
            HostError::SealingKey(_) => Self::field("/sealing_key", error),
            HostError::Address(_) => Self::field("/address", error),
            HostError::Request(_) => {
                tracing::warn!(error = %problem::chain(&error), "a join was refused");
                Self::field("/csr", "is no PKCS#10 request in PEM form with a valid signature")
            }
            HostError::Name(_)
            | HostError::Unknown(_)
            | HostError::Locked(_)
            | HostError::NotLocked(_)
            | HostError::InUse { .. } => Self::field("/name", error),
            HostError::Store(error) => error.into(),
        }
    }
}
