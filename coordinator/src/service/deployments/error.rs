//! Errors of the deployment use cases.

use crate::domain::field_error::FieldError;
use buddo_shared::model::id::LastRevision;
use buddo_shared::model::spec::TierSlug;

use crate::auth::access::Refused;
use crate::crypto::vault::VaultError;
use crate::domain::history::NoReturn;
use crate::domain::identity::TeamRole;
use crate::domain::lifecycle::IllegalMove;
use crate::domain::scheduler::NoRoom;
use crate::store::StoreError;

/// What the owner can do about a deployment whose environment cannot be decrypted.
pub(crate) const MAKE_AGAIN: &str = "destroy it and create it again with its whole environment";

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Some fields are invalid; each is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// A well-formed slug, but no such tier.
    #[error("there is no tier {0}; pick a slug from GET /api/deploy/tiers")]
    TierNotFound(TierSlug),
    /// No such deployment.
    #[error("there is no deployment with this id; GET /api/deploy/apps lists yours")]
    NotFound,
    /// It, or the team that was named, belongs to someone else.
    #[error(
        "the deployment or the team belongs to another operator; GET /api/deploy/apps lists yours"
    )]
    Forbidden,
    /// The role in the team is not sufficient.
    #[error(
        "your role in the team does not allow this; it takes the role {0}, which an admin of the \
         team can give"
    )]
    Role(TeamRole),
    /// The account may not act.
    #[error("the account is suspended; ask the platform's operator")]
    Suspended,
    /// The address of the caller, or of the responsible account, is not verified.
    #[error(
        "{} not verified; open the link in the verification mail, or ask for a new one with \
         POST /api/auth/send-verification",
        if *own { "the email address of this account is" } else {
            "the email address of the account that answers for this team's deployments is"
        }
    )]
    EmailUnverified {
        /// Whether it is the caller's own.
        own: bool,
    },
    /// The account may not deploy on this tier.
    #[error(
        "the tier {0} is not open to this account; choose another one of GET /api/deploy/tiers, or \
         ask the platform's operator to allow it to the account that answers for the deployment"
    )]
    TierClosed(TierSlug),
    /// The account has reached a limit.
    #[error(
        "the limit of {limit} deployments {of} is reached; destroy one that is not needed \
         (a stopped one counts)"
    )]
    LimitReached {
        limit: u32,
        /// What the limit applies to: the account, or the account on a tier.
        of: String,
    },
    /// No host has room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The state does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
    /// The revision cannot be restored.
    #[error(transparent)]
    NoReturn(#[from] NoReturn),
    /// The key was already used for another request.
    #[error("this Idempotency-Key was sent with another body; use a new key for a new request")]
    KeyReused,
    /// The environment cannot be decrypted. Same wording as in held deployments.
    #[error("its environment cannot be decrypted, so it cannot be started; {MAKE_AGAIN}")]
    Lost(#[source] VaultError),
    /// No revision number is left.
    #[error(transparent)]
    LastRevision(#[from] LastRevision),
    /// The environment cannot be encrypted.
    #[error("cannot encrypt the environment")]
    Vault(#[from] VaultError),
    /// An answer cannot be serialised or read back.
    #[error("cannot store the answer")]
    Answer(#[from] serde_json::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeployError {
    pub(super) fn field(pointer: &str, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }
}

impl From<Refused> for DeployError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotFound => Self::NotFound,
            Refused::NotYours | Refused::OrgRole(_) => Self::Forbidden,
            Refused::TeamRole(role) => Self::Role(role),
            Refused::Store(error) => Self::Store(error),
        }
    }
}
