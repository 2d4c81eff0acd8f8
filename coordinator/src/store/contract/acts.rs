//! The audit log of OAuth: apps and consents.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use super::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthAct {
    /// An app was made.
    AppMade,
    /// Its owner changed the redirect URIs.
    AppEdited,
    /// An app was removed, with all consents to it.
    AppRemoved,
    /// An app got another secret.
    SecretRotated,
    /// An administrator allowed an app to serve users other than its owner.
    AppApproved,
    /// An administrator revoked that.
    AppSuspended,
    /// An account consented to an app.
    Allowed,
    /// An account refused an app.
    Denied,
    /// A consent ended.
    Ended,
}

impl OAuthAct {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppMade => "app_made",
            Self::AppEdited => "app_edited",
            Self::AppRemoved => "app_removed",
            Self::SecretRotated => "secret_rotated",
            Self::AppApproved => "app_approved",
            Self::AppSuspended => "app_suspended",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Ended => "ended",
        }
    }
}

/// An entry to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOAuthAct {
    pub act: OAuthAct,
    pub client_id: String,
    /// The account whose access it concerns, if any.
    pub account: Option<AccountId>,
    /// The actor; `None`: the platform, or its administrator.
    pub actor: Option<AccountId>,
    pub at: Timestamp,
    pub details: Option<serde_json::Value>,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuthActRow {
    pub action: String,
    pub client_id: String,
    /// The account whose access it concerns.
    pub account: Option<String>,
    /// The actor; `None`: the platform, or its administrator.
    pub actor: Option<String>,
    pub at: Timestamp,
    pub details: Option<serde_json::Value>,
}

/// Access to the audit log of OAuth.
pub trait Acts {
    fn insert_act(&mut self, act: &NewOAuthAct) -> Result<()>;
    /// The newest `limit` entries about an app, oldest first.
    fn acts_of(&self, client_id: &str, limit: u32) -> Result<Vec<OAuthActRow>>;
}
