//! How a host joins: one request with a one-time token, over TLS pinned to the host CA.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::host_wire::manifest::Trust;
use crate::host_wire::sealed::SealingKey;
use crate::model::id::HostId;
use crate::model::name::HostName;
use crate::model::secret::{Secret, exposed};

/// DNS name in the coordinator's certificates of the host CA, for servers and clients alike.
pub const COORDINATOR_NAME: &str = "coordinator.hosts.internal";

/// DNS name in a host's certificate: it binds the certificate to that host's id.
pub fn host_name(id: HostId) -> String {
    format!("{id}.hosts.internal")
}

/// What `buddo-coordinator host add` prints: a one-time secret, and the host CA's fingerprint so
/// that the agent can verify who gets the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// 32 random bytes, base64url. The coordinator stores its hash only.
    pub secret: Secret,
    /// SHA-256 of the host CA's certificate in DER form.
    pub ca_fingerprint: [u8; 32],
}

/// A text that is not a [`JoinToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the join token is malformed; copy all of it from `buddo-coordinator host add NAME`")]
pub struct JoinTokenError;

const PREFIX: &str = "buddo_join_";

impl JoinToken {
    /// Parses a token that [`to_text`](Self::to_text) wrote.
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
    /// PKCS#10 request in PEM form, for the agent's key.
    pub csr: String,
    /// The key that secrets for this host are sealed to.
    pub sealing_key: SealingKey,
    /// `host:port` where the coordinator reaches the agent.
    pub address: String,
}

/// Answer to a join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// Given by the coordinator; certificates and documents name it.
    pub host_id: HostId,
    /// The host's certificate, PEM.
    pub certificate: String,
    /// The signing keys and host CAs that the host trusts.
    pub trust: Trust,
    /// The zone of all subdomains.
    pub zone: HostName,
}

/// The serial number of a host's certificate (RFC 5280, 4.1.2.2): the host's id and the
/// certificate's number. So a host can tell from the certificate alone which one it holds.
pub fn serial(id: HostId, number: u32) -> [u8; 20] {
    let mut serial = [0; 20];
    serial[..16].copy_from_slice(id.as_uuid().as_bytes());
    // Positive, and not so small that leading bytes are dropped.
    serial[0] = serial[0] & 0x3f | 0x40;
    serial[16..].copy_from_slice(&number.to_be_bytes());
    serial
}

/// The number in a [`serial`].
pub fn number_of(serial: &[u8]) -> Option<u32> {
    let serial: &[u8; 20] = serial.try_into().ok()?;
    let [.., a, b, c, d] = *serial;
    Some(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_round_trips_and_debug_hides_its_secret() {
        let token =
            JoinToken { secret: Secret::new(BASE64.encode([7; 32])), ca_fingerprint: [9; 32] };
        assert_eq!(JoinToken::parse(token.to_text().expose()).unwrap(), token);
        assert!(!format!("{token:?}").contains("Bwc"));
        assert!(JoinToken::parse("buddo_join_x.y").is_err());
    }

    #[test]
    fn a_serial_encodes_its_number_for_any_host_id() {
        for id in [0, 7, u128::MAX] {
            let id = HostId::new(uuid::Uuid::from_u128(id));
            for number in [0, 1, 0x80, u32::MAX] {
                let serial = serial(id, number);
                assert!(serial[0] > 0 && serial[0] < 0x80, "positive, 20 bytes long");
                assert_eq!(number_of(&serial), Some(number));
            }
        }
        assert_eq!(number_of(&[1, 2, 3]), None);
    }
}
