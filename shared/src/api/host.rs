//! How a host joins: one request with a one-time token, over TLS pinned to the host CA.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::id::HostId;
use crate::name::HostName;
use crate::sealed::SealingKey;
use crate::secret::{Secret, exposed};
use crate::signed::PublicKey;

/// DNS name in the coordinator's certificates of the host CA, for servers and clients alike.
pub const COORDINATOR_NAME: &str = "coordinator.hosts.internal";

/// DNS name in the certificate of a host: it binds the certificate to that host's id.
pub fn host_name(id: HostId) -> String {
    format!("{id}.hosts.internal")
}

/// What `buddo-coordinator host add` prints: a one-time secret, and the host CA's fingerprint so
/// that the agent knows whom it gives the secret to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// 32 random bytes, base64url. The coordinator stores its hash only.
    pub secret: Secret,
    /// SHA-256 of the host CA's certificate in DER form.
    pub ca_fingerprint: [u8; 32],
}

/// A text that is no [`JoinToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the join token is malformed; copy it whole from `buddo-coordinator host add NAME`")]
pub struct JoinTokenError;

const PREFIX: &str = "buddo_join_";

impl JoinToken {
    /// Reads a token that [`to_text`](Self::to_text) wrote.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(JoinTokenError)?;
        let (secret, fingerprint) = rest.split_once('.').ok_or(JoinTokenError)?;
        if BASE64.decode(secret).map_err(|_| JoinTokenError)?.len() != 32 {
            return Err(JoinTokenError);
        }
        let bytes = BASE64.decode(fingerprint).map_err(|_| JoinTokenError)?;
        let ca_fingerprint = bytes.try_into().map_err(|_| JoinTokenError)?;
        Ok(Self { secret: Secret::new(secret), ca_fingerprint })
    }

    /// The token as text. This exposes the secret: print it to the administrator only.
    pub fn to_text(&self) -> Secret {
        let fingerprint = BASE64.encode(self.ca_fingerprint);
        Secret::new(format!("{PREFIX}{}.{fingerprint}", self.secret.expose()))
    }
}

/// `POST /v1/join` on the coordinator's listener for hosts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The token's secret half.
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
    /// PKCS#10 request in PEM form, for the key that the agent made.
    pub csr: String,
    /// Where secrets for this host are sealed to.
    pub sealing_key: SealingKey,
    /// `host:port` where the coordinator reaches the agent.
    pub address: String,
}

/// Answer to a join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// The host's id from now on.
    pub host_id: HostId,
    /// The host's certificate, PEM.
    pub certificate: String,
    /// The host CA, PEM: the only one the agent trusts.
    pub ca: String,
    /// Keys that documents are signed with.
    pub signing_keys: Vec<PublicKey>,
    /// The zone that apps are served in.
    pub zone: HostName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_hides_its_secret() {
        let token =
            JoinToken { secret: Secret::new(BASE64.encode([7; 32])), ca_fingerprint: [9; 32] };
        assert_eq!(JoinToken::parse(token.to_text().expose()).unwrap(), token);
        assert!(!format!("{token:?}").contains("Bwc"));
        assert!(JoinToken::parse("buddo_join_x.y").is_err());
    }
}
