//! Signed documents: a [`Verified`] value can only be made by verifying one here.
//!
//! The envelope is a JWS in flattened JSON form (RFC 7515, 7.2.2) with `EdDSA` over Ed25519 (RFC
//! 8037) and no other algorithm. The verified bytes are the ones that are decoded; nothing is
//! serialised again for the check.
//!
//! ```text
//! bytes ─ size cap ─ strict envelope ─ strict header (alg, typ, kid) ─ pinned key ─ signature
//!       ─ decode payload ─ schema ─ host id ─ whom it says to trust ─► Verified<Manifest>
//! ```
//!
//! Checks that need state or a clock (generation order, expiry) are up to the agent's `control::desired_state`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use data_encoding::HEXLOWER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::host_wire::jws::Flattened;
use crate::host_wire::manifest::{Manifest, SCHEMA, Trust};
use crate::model::id::HostId;
use crate::model::image::Digest;
use crate::model::secret::Secret;

/// The largest envelope that is parsed, in bytes: about 10,000 deployments.
pub const MAX_ENVELOPE: usize = 32 * 1024 * 1024;

/// `typ` of a desired-state document (RFC 7515, 4.1.9).
pub const TYPE: &str = "buddo-desired-state+jws";

/// The maximum number of signing keys, and of host CAs, in a document: a rotation needs two.
pub const MAX_TRUSTED: usize = 4;

/// The maximum size of a host CA's certificate, in bytes of PEM.
const MAX_CA: usize = 16 * 1024;

/// A value whose signature was verified against a pinned key. Made only by [`Verifier`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    digest: Digest,
    signer: String,
}

impl<T> Verified<T> {
    /// The verified content.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// `sha256:` of the verified payload bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The id of the key that signed it.
    pub fn signer(&self) -> &str {
        &self.signer
    }
}

/// The trust of a document is malformed, or would lock the host out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// None, or more than a rotation needs.
    #[error("{0} signing keys; it takes 1 to {MAX_TRUSTED}")]
    KeyCount(usize),
    /// A key that cannot verify anything.
    #[error(transparent)]
    Key(#[from] PinnedKeyError),
    /// The coordinator's next document would be refused.
    #[error("not the key {0:?}, which signed it: the signer would lock itself out")]
    Lockout(String),
    /// None, or more than a rollover needs.
    #[error("{0} host CAs; it takes 1 to {MAX_TRUSTED}")]
    CaCount(usize),
    /// Longer than any real certificate.
    #[error("a host CA of {0} bytes; a certificate has at most {MAX_CA}")]
    CaSize(usize),
}

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Over [`MAX_ENVELOPE`]; nothing was parsed.
    #[error("the document has {0} bytes; at most {MAX_ENVELOPE} are read")]
    TooLarge(usize),
    /// Not exactly `{"protected", "payload", "signature"}`.
    #[error("the document is not a flattened JWS")]
    Envelope,
    /// The header is malformed, or contains more than `alg`, `typ` and `kid`.
    #[error("the document's protected header is not of the accepted form")]
    Header,
    /// An algorithm other than `EdDSA`.
    #[error("the document's algorithm is not EdDSA")]
    Algorithm,
    /// Another kind of document.
    #[error("the document's type is not {TYPE}")]
    Type,
    /// No pinned key has this id.
    #[error("the document is signed with the key {0:?}, which this host does not trust")]
    UnknownKey(String),
    /// The signature does not match the bytes.
    #[error("the document's signature is not valid")]
    Signature,
    /// Signed, but not a manifest.
    #[error("the signed payload is not a desired state: {0}")]
    Payload(String),
    /// Written by a newer program.
    #[error("the document has schema {0}, this agent reads {SCHEMA}; upgrade the agent")]
    NewerSchema(u32),
    /// Written by an older program.
    #[error(
        "the document has schema {0}, this agent reads {SCHEMA}: it was written by a coordinator \
         older than this agent; upgrade both to the same version"
    )]
    OlderSchema(u32),
    /// Signed for another host.
    #[error("the document is for host {0}, not for this one")]
    ForeignHost(HostId),
    /// The keys and CAs to trust are not acceptable.
    #[error("the trust that the document sets is not acceptable: it names {0}")]
    Trust(TrustError),
}

impl VerifyError {
    /// The stable code for programs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "document_too_large",
            Self::Envelope => "malformed_envelope",
            Self::Header => "malformed_header",
            Self::Algorithm => "wrong_algorithm",
            Self::Type => "wrong_type",
            Self::UnknownKey(_) => "unknown_key",
            Self::Signature => "bad_signature",
            Self::Payload(_) => "malformed_payload",
            Self::NewerSchema(_) => "newer_schema",
            Self::OlderSchema(_) => "older_schema",
            Self::ForeignHost(_) => "foreign_host",
            Self::Trust(_) => "bad_trust",
        }
    }
}

/// The protected header, and nothing else: no `crit`, no `jwk`, no `x5u`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    alg: String,
    typ: String,
    kid: String,
}

/// The public half of a signing key as a JWK (RFC 8037, 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The public key, base64url.
    pub x: String,
    /// The key's id: its RFC 7638 thumbprint.
    pub kid: String,
}

impl PublicKey {
    /// Describes the public half `bytes` (32 bytes).
    fn from_bytes(bytes: &[u8]) -> Self {
        let x = BASE64.encode(bytes);
        // RFC 7638, 3.2: the required members in lexicographic order, no white space.
        let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = BASE64.encode(sha256(thumbprint.as_bytes()));
        Self { kty: "OKP".to_owned(), crv: "Ed25519".to_owned(), x, kid }
    }
}

/// Verifies documents against the keys that a host pinned when it joined.
#[derive(Clone)]
pub struct Verifier {
    host: HostId,
    keys: BTreeMap<String, DecodingKey>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("host", &self.host)
            .field("keys", &self.keys.keys())
            .finish()
    }
}

/// A pinned key is not an Ed25519 public key, or its id is not its thumbprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signing key {0:?}, which is malformed or has another key's id")]
pub struct PinnedKeyError(String);

impl Verifier {
    /// Trusts `keys` for documents addressed to `host`.
    pub fn new(host: HostId, keys: &[PublicKey]) -> Result<Self, PinnedKeyError> {
        let mut pinned = BTreeMap::new();
        for key in keys {
            let error = || PinnedKeyError(key.kid.clone());
            let bytes = BASE64.decode(&key.x).map_err(|_| error())?;
            if bytes.len() != 32 || PublicKey::from_bytes(&bytes) != *key {
                return Err(error());
            }
            pinned.insert(key.kid.clone(), DecodingKey::from_ed_der(&bytes));
        }
        Ok(Self { host, keys: pinned })
    }

    /// The host whose documents are accepted.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Whether a key with this id is pinned.
    pub fn trusts(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// Verifies and decodes one envelope.
    pub fn verify(&self, envelope: &[u8]) -> Result<Verified<Manifest>, VerifyError> {
        if envelope.len() > MAX_ENVELOPE {
            return Err(VerifyError::TooLarge(envelope.len()));
        }
        let flattened: Flattened =
            serde_json::from_slice(envelope).map_err(|_| VerifyError::Envelope)?;
        let header = BASE64.decode(&flattened.protected).map_err(|_| VerifyError::Header)?;
        let header: Protected = serde_json::from_slice(&header).map_err(|_| VerifyError::Header)?;
        if header.alg != "EdDSA" {
            return Err(VerifyError::Algorithm);
        }
        if header.typ != TYPE {
            return Err(VerifyError::Type);
        }
        let key = self
            .keys
            .get(&header.kid)
            .ok_or_else(|| VerifyError::UnknownKey(header.kid.chars().take(64).collect()))?;
        if !flattened.is_signed_by(key, Algorithm::EdDSA) {
            return Err(VerifyError::Signature);
        }
        let payload = BASE64
            .decode(&flattened.payload)
            .map_err(|error| VerifyError::Payload(error.to_string()))?;
        self.decode(&payload, header.kid)
    }

    fn decode(&self, payload: &[u8], signer: String) -> Result<Verified<Manifest>, VerifyError> {
        #[derive(Deserialize)]
        struct SchemaOnly {
            schema: u32,
        }
        let payload_error = |error: serde_json::Error| VerifyError::Payload(error.to_string());
        // Before the rest: another schema may not even decode, and the error should say so.
        let SchemaOnly { schema } = serde_json::from_slice(payload).map_err(payload_error)?;
        match schema.cmp(&SCHEMA) {
            Ordering::Less => return Err(VerifyError::OlderSchema(schema)),
            Ordering::Greater => return Err(VerifyError::NewerSchema(schema)),
            Ordering::Equal => {}
        }
        let value: Manifest = serde_json::from_slice(payload).map_err(payload_error)?;
        if value.host_id != self.host {
            return Err(VerifyError::ForeignHost(value.host_id));
        }
        if let Some(trust) = &value.trust {
            self.check_trust(trust, &signer).map_err(VerifyError::Trust)?;
        }
        Ok(Verified { value, digest: digest_of(payload), signer })
    }

    fn check_trust(&self, trust: &Trust, signer: &str) -> Result<(), TrustError> {
        let Trust { signing_keys, cas } = trust;
        let fits = |count: usize| (1..=MAX_TRUSTED).contains(&count);
        if !fits(signing_keys.len()) {
            return Err(TrustError::KeyCount(signing_keys.len()));
        }
        if !Self::new(self.host, signing_keys)?.trusts(signer) {
            return Err(TrustError::Lockout(signer.to_owned()));
        }
        if !fits(cas.len()) {
            return Err(TrustError::CaCount(cas.len()));
        }
        match cas.iter().map(String::len).find(|length| *length > MAX_CA) {
            Some(length) => Err(TrustError::CaSize(length)),
            None => Ok(()),
        }
    }
}

/// Holds the private signing key.
pub struct Signer {
    key: EncodingKey,
    public: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.public.kid).finish_non_exhaustive()
    }
}

/// A signing key cannot be made or read, or a document cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The system's random generator failed.
    #[error("cannot generate a signing key")]
    Generate,
    /// The stored key is not a PKCS#8 Ed25519 key.
    #[error("the signing key file does not hold an Ed25519 key in PKCS#8 form (base64)")]
    Key,
    /// The document cannot be signed.
    #[error("cannot sign the document")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The envelope cannot be written.
    #[error("cannot write the envelope")]
    Write(#[source] serde_json::Error),
}

/// A signed document: what is stored, sent and acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// `sha256:` of the payload, which the acknowledgement must name.
    pub digest: Digest,
}

impl Signer {
    /// Generates a key.
    pub fn generate() -> Result<Self, SignError> {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let pkcs8 = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&rng)
            .map_err(|_| SignError::Generate)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Parses a key that [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &Secret) -> Result<Self, SignError> {
        let pkcs8 =
            Zeroizing::new(BASE64.decode(text.expose().trim()).map_err(|_| SignError::Key)?);
        Self::from_pkcs8(&pkcs8)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignError> {
        use aws_lc_rs::signature::KeyPair as _;
        let pair =
            aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| SignError::Key)?;
        Ok(Self {
            key: EncodingKey::from_ed_der(pkcs8),
            public: PublicKey::from_bytes(pair.public_key().as_ref()),
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
        })
    }

    /// The key as text, for its owner's 0600 file.
    pub fn to_text(&self) -> Secret {
        Secret::new(BASE64.encode(&*self.pkcs8))
    }

    /// The public half, which hosts pin.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs one manifest.
    pub fn sign(&self, manifest: &Manifest) -> Result<Envelope, SignError> {
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(self.public.kid.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let signed = Flattened::sign(&header, manifest, &self.key).map_err(SignError::Sign)?;
        let plain = BASE64.decode(&signed.payload).map_err(|_| SignError::Key)?;
        let bytes = serde_json::to_vec(&signed).map_err(SignError::Write)?;
        Ok(Envelope { bytes, digest: digest_of(&plain) })
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// `sha256:` and the hex digest of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    let text = format!("sha256:{}", HEXLOWER.encode(&sha256(bytes)));
    Digest::parse(&text).unwrap_or_else(|_| unreachable!("64 hex digits were just written"))
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
