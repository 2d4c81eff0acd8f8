//! Tokens: opaque ones, stored hashed, and the login's JWT.
//!
//! A plain token exists in memory between its creation (or arrival) and its hash, and on the wire;
//! the store holds only hashes, so that a copied database grants no access. The kinds exclude each
//! other (RFC 8725, 3.12): opaque tokens carry a prefix, the JWT a `typ` and an audience.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::model::secret::Secret;

use crate::crypto::random::{Random, bytes};
use crate::domain::identity::HashedToken;

pub mod api_key;
pub mod device;
pub mod jwt;
mod user_code;

pub use user_code::UserCode;

/// What an opaque token is for. Its prefix lets scanners find leaked ones, and keeps one kind from
/// being accepted as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainTokenKind {
    Access,
    Refresh,
    Code,
    /// What a device polls for its tokens with (RFC 8628).
    DeviceCode,
    /// Secret of a confidential OAuth client.
    ClientSecret,
    /// The token of a verification mail.
    EmailVerification,
    /// The token of a password reset mail.
    PasswordReset,
    /// The token of a mail that confirms a new address.
    EmailChange,
    /// A browser's session on the login and consent pages.
    Session,
    /// A browser's login for the API.
    WebSession,
    /// The token of a mail that invites to an organisation.
    Invitation,
}

impl PlainTokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Access => "buddo_at_",
            Self::Refresh => "buddo_rt_",
            Self::Code => "buddo_ac_",
            Self::DeviceCode => "buddo_dc_",
            Self::ClientSecret => "secret_",
            Self::EmailVerification => "buddo_ev_",
            Self::PasswordReset => "buddo_pr_",
            Self::EmailChange => "buddo_ec_",
            Self::Session => "buddo_se_",
            Self::WebSession => "buddo_ws_",
            Self::Invitation => "buddo_in_",
        }
    }
}

/// A token as its holder has it. `Debug` does not print it.
#[derive(Clone)]
pub struct PlainToken(Secret);

impl PlainToken {
    /// A new token of a kind: 256 random bits after its prefix.
    pub fn generate(kind: PlainTokenKind, random: &dyn Random) -> Self {
        let text = BASE64.encode(bytes::<32>(random));
        Self(Secret::new(format!("{}{text}", kind.prefix())))
    }

    /// Parses a token of a kind; rejects everything else.
    pub fn parse(kind: PlainTokenKind, text: &str) -> Option<Self> {
        let random = text.strip_prefix(kind.prefix())?;
        let well_formed = random.len() == 43 && BASE64.decode(random).is_ok();
        well_formed.then(|| Self(Secret::new(text)))
    }

    /// What the store keeps of it. The token has 256 random bits, so a plain hash, without salt or
    /// stretching, cannot be reversed.
    pub fn hashed(&self) -> HashedToken {
        HashedToken::of(self.0.expose())
    }

    /// The text, for its holder.
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainToken([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRandom;

    const KINDS: [PlainTokenKind; 9] = [
        PlainTokenKind::Access,
        PlainTokenKind::Refresh,
        PlainTokenKind::Code,
        PlainTokenKind::DeviceCode,
        PlainTokenKind::ClientSecret,
        PlainTokenKind::EmailVerification,
        PlainTokenKind::Session,
        PlainTokenKind::WebSession,
        PlainTokenKind::Invitation,
    ];

    #[test]
    fn a_token_parses_only_as_its_own_kind() {
        for kind in KINDS {
            let token = PlainToken::generate(kind, &SystemRandom);
            let text = token.clone().into_secret();
            for other in KINDS {
                let read = PlainToken::parse(other, text.expose());
                assert_eq!(read.is_some(), kind == other);
            }
            let read = PlainToken::parse(kind, text.expose()).unwrap();
            assert_eq!(read.hashed(), token.hashed());
        }
    }

    #[test]
    fn debug_redacts_plain_and_hashed_tokens() {
        let token = PlainToken::generate(PlainTokenKind::Access, &SystemRandom);
        let text = token.clone().into_secret();
        let random = text.expose().trim_start_matches("buddo_at_");
        let shown = format!("{token:?} {:?}", token.hashed());
        assert!(!shown.contains(random));
        assert_eq!(shown, "PlainToken([redacted]) HashedToken([redacted])");
    }

    #[test]
    fn tokens_differ() {
        let one = PlainToken::generate(PlainTokenKind::Code, &SystemRandom);
        assert_ne!(
            one.hashed(),
            PlainToken::generate(PlainTokenKind::Code, &SystemRandom).hashed()
        );
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for text in ["", "buddo_at_", "buddo_at_short", &format!("buddo_at_{}", "!".repeat(43))] {
            assert!(PlainToken::parse(PlainTokenKind::Access, text).is_none(), "{text}");
        }
        assert!(HashedToken::from_stored(&[0; 31]).is_none());
    }
}
