//! Which column and row an encrypted value belongs to, and how ciphertexts begin.

use buddo_shared::model::id::{AccountId, DeploymentId, Revision};
use buddo_shared::model::workload::ServiceName;
use uuid::Uuid;

pub(crate) const FORM: [u8; 4] = *b"BDV2";
/// Bytes of a key's hash that identify the key in ciphertexts.
pub(crate) const KEY_ID: usize = 8;
/// Bytes of form and key id at the start of every ciphertext.
pub const HEAD: usize = FORM.len() + KEY_ID;

/// The column and the row that an encrypted value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionContext {
    /// `accounts.totp_secret`.
    TotpSecret(AccountId),
    /// `services.env`.
    Environment(DeploymentId, Revision, ServiceName),
}

impl std::fmt::Display for EncryptionContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TotpSecret(account) => write!(f, "accounts.totp_secret/{account}"),
            // As it was when a revision had one environment: what was encrypted then is bound to it.
            Self::Environment(id, number, ServiceName::APP) => {
                write!(f, "revisions.env/{id}/{number}")
            }
            Self::Environment(id, number, service) => {
                write!(f, "services.env/{id}/{number}/{service}")
            }
        }
    }
}

impl EncryptionContext {
    /// What ciphertexts of the first form are bound to.
    pub(crate) fn owner(&self) -> &Uuid {
        match self {
            Self::TotpSecret(account) => account.as_uuid(),
            Self::Environment(id, ..) => id.as_uuid(),
        }
    }

    pub(crate) fn bound(&self, head: &[u8]) -> Vec<u8> {
        [head, self.to_string().as_bytes()].concat()
    }
}
