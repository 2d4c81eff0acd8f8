//! Proof Key for Code Exchange (RFC 7636), with `S256`.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::model::secret::Secret;

/// A verifier: its holder may redeem the code that was requested with its challenge.
#[derive(Debug)]
pub(crate) struct Pkce(Secret);

impl Pkce {
    /// A new one, of 256 random bits.
    pub(crate) fn generate() -> Self {
        Self(random_text())
    }

    /// Sent through the browser (RFC 7636, 4.2).
    pub(crate) fn challenge(&self) -> String {
        BASE64.encode(digest(&SHA256, self.0.expose().as_bytes()))
    }

    /// Sent in the token request.
    pub(crate) fn into_verifier(self) -> Secret {
        self.0
    }
}

/// 43 characters that nobody can guess.
pub(crate) fn random_text() -> Secret {
    Secret::new(BASE64.encode(rand::random::<[u8; 32]>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7636_appendix_b_matches_the_test_vector() {
        let pkce = Pkce(Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert_eq!(pkce.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn rfc7636_4_1_a_verifier_is_random_and_has_43_unreserved_characters() {
        let one = Pkce::generate().into_verifier();
        assert_eq!(one.expose().len(), 43);
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(one.expose().bytes().all(unreserved));
        assert_ne!(one, Pkce::generate().into_verifier());
    }
}
