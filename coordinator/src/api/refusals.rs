//! Translates refusals of use cases and database failures to problems.

use buddo_runtime::error_chain::chain;
use http::HeaderValue;
use http::header::RETRY_AFTER;

use crate::api::problem::{self, ApiError};
use crate::auth::password::HashError;
use crate::auth::session::SessionError;
use crate::domain::history::NoReturn;
use crate::domain::scheduler::NoRoom;
use crate::service::accounts::{self, AccountError};
use crate::service::deployments::DeployError;
use crate::service::hosts::join::HostError;
use crate::service::teams::TeamError;
use crate::store::StoreError;

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        AccountError::from(error).into()
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        let kind = match error {
            AccountError::Invalid(errors) => return Self::invalid(errors),
            AccountError::Store(error) => return error.into(),
            AccountError::Deployments(error) => return error.into(),
            AccountError::Teams(error) => return error.into(),
            AccountError::Password(HashError::Busy) => {
                let detail = "too many people log in at this moment; try again in 5 seconds";
                return Self::new(problem::OVERLOADED, detail)
                    .with_header(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            AccountError::TooSoon(wait) => {
                let wait = HeaderValue::from(accounts::seconds(wait));
                return Self::new(problem::RATE_LIMITED, error.to_string())
                    .with_header(RETRY_AFTER, wait);
            }
            AccountError::Password(_)
            | AccountError::Token(_)
            | AccountError::Vault(_)
            | AccountError::Totp(_) => return Self::internal(&error),
            AccountError::Credentials => problem::INVALID_CREDENTIALS,
            AccountError::TotpRequired => problem::TOTP_REQUIRED,
            AccountError::TotpCode => problem::INVALID_TOTP_CODE,
            AccountError::Reauthentication
            | AccountError::CodeMissing
            | AccountError::CodeWrong => problem::REAUTHENTICATION_FAILED,
            AccountError::Void => problem::INVALID_TOKEN,
            AccountError::Link => problem::INVALID_VERIFICATION_TOKEN,
            AccountError::SpentLink => problem::INVALID_LINK,
            AccountError::Suspended(_) => problem::ACCOUNT_SUSPENDED,
            AccountError::EmailUnverified => problem::EMAIL_UNVERIFIED,
            AccountError::TotpEnabled => problem::TOTP_ALREADY_ENABLED,
            AccountError::TotpMissing => problem::TOTP_NOT_ENABLED,
            AccountError::NoSession => problem::NOT_FOUND,
        };
        let wants_code = matches!(
            error,
            AccountError::TotpRequired
                | AccountError::TotpCode
                | AccountError::CodeMissing
                | AccountError::CodeWrong
        );
        let refusal = Self::new(kind, error.to_string());
        if wants_code { refusal.with_totp_required(true) } else { refusal }
    }
}

impl From<TeamError> for ApiError {
    fn from(error: TeamError) -> Self {
        let kind = match error {
            TeamError::Invalid(errors) => return Self::invalid(errors),
            TeamError::Store(error) => return error.into(),
            TeamError::NotFound(_) => problem::NOT_FOUND,
            TeamError::Role(_) => problem::ROLE_REQUIRED,
            TeamError::EmailUnverified => problem::EMAIL_UNVERIFIED,
            TeamError::OtherAddress => problem::FORBIDDEN,
            TeamError::SpentInvitation => problem::INVALID_LINK,
            TeamError::Limit { .. } => problem::LIMIT_REACHED,
            TeamError::InUse(_) => problem::IN_USE,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let kind = match error {
            DeployError::Invalid(errors) => return Self::invalid(errors),
            DeployError::Store(error) => return error.into(),
            DeployError::Vault(_) | DeployError::Answer(_) => return Self::internal(&error),
            DeployError::TierNotFound(_) => problem::TIER_NOT_FOUND,
            DeployError::NotFound => problem::NOT_FOUND,
            DeployError::Forbidden => problem::FORBIDDEN,
            DeployError::Role(_) => problem::ROLE_REQUIRED,
            DeployError::Suspended => problem::ACCOUNT_SUSPENDED,
            DeployError::EmailUnverified { .. } => problem::EMAIL_UNVERIFIED,
            DeployError::TierClosed(_) => problem::TIER_NOT_ALLOWED,
            DeployError::LimitReached { .. } => problem::DEPLOYMENT_LIMIT_REACHED,
            DeployError::NoRoom(NoRoom::NoHost(_)) => problem::NO_HOST_AVAILABLE,
            DeployError::NoRoom(NoRoom::Share { .. }) => problem::LIMIT_REACHED,
            DeployError::NoRoom(_) => problem::NO_CAPACITY,
            DeployError::NoReturn(NoReturn::Unknown(_) | NoReturn::Forgotten(_)) => {
                problem::REVISION_NOT_FOUND
            }
            DeployError::Lost(_) => {
                tracing::error!(error = %chain(&error), "a stored environment is lost");
                problem::ILLEGAL_STATE
            }
            DeployError::Illegal(_) | DeployError::NoReturn(_) | DeployError::LastRevision(_) => {
                problem::ILLEGAL_STATE
            }
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
                tracing::error!(%error, "the disk is full; free space on the database's volume");
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
                tracing::warn!(error = %chain(&error), "a join was refused");
                Self::field("/csr", "is not a PKCS#10 request in PEM form with a valid signature")
            }
            HostError::Name(_)
            | HostError::NoMemory
            | HostError::Unknown(_)
            | HostError::Locked(_)
            | HostError::NotLocked(_)
            | HostError::InUse { .. } => Self::field("/name", error),
            HostError::Clock(doubted) => Self::new(problem::CLOCK_DOUBTED, doubted.to_string()),
            HostError::Store(error) => error.into(),
        }
    }
}
