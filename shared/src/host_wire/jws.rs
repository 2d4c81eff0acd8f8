//! The common format of signed data: JWS in flattened JSON (RFC 7515, 7.2.2), exactly three
//! members. The verified bytes are the ones that are decoded.

use jsonwebtoken::errors::Error;
use jsonwebtoken::jws::{self, Jws};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

/// The three members, each in base64url, as on the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flattened {
    pub(crate) protected: String,
    pub(crate) payload: String,
    pub(crate) signature: String,
}

impl Flattened {
    /// Signs `payload` under `header`.
    pub(crate) fn sign<T: Serialize>(
        header: &Header,
        payload: &T,
        key: &EncodingKey,
    ) -> Result<Self, Error> {
        let Jws { protected, payload, signature, .. } = jws::encode(header, Some(payload), key)?;
        Ok(Self { protected, payload, signature })
    }

    /// Whether `key` signed exactly these bytes with `algorithm`. The caller must check the
    /// header's claims about both first.
    pub(crate) fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        let message = format!("{}.{}", self.protected, self.payload);
        jsonwebtoken::crypto::verify(&self.signature, message.as_bytes(), key, algorithm)
            .unwrap_or(false)
    }
}
