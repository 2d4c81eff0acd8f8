//! Proof Key for Code Exchange (RFC 7636), `S256` only.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use subtle::ConstantTimeEq as _;

/// SHA-256 of a verifier, as sent in the authorization request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge([u8; 32]);

/// A text that is not a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("code_challenge is not an S256 challenge: 43 characters of base64url without padding")]
pub struct ChallengeError;

/// A text that is not a verifier (RFC 7636, 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("code_verifier must have 43 to 128 characters of A-Z, a-z, 0-9, '-', '.', '_' and '~'")]
pub struct VerifierError;

impl Challenge {
    pub fn parse(text: &str) -> Result<Self, ChallengeError> {
        let bytes = BASE64.decode(text).map_err(|_| ChallengeError)?;
        bytes.try_into().map(Self).map_err(|_| ChallengeError)
    }

    pub fn to_text(self) -> String {
        BASE64.encode(self.0)
    }

    /// Whether this challenge was made from `verifier` (RFC 7636, 4.6).
    pub fn matches(self, verifier: &str) -> Result<bool, VerifierError> {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
            return Err(VerifierError);
        }
        let hash = digest(&SHA256, verifier.as_bytes());
        Ok(self.0.ct_eq(hash.as_ref()).into())
    }
}

impl std::str::FromStr for Challenge {
    type Err = ChallengeError;

    fn from_str(text: &str) -> Result<Self, ChallengeError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn rfc7636_appendix_b_matches_the_test_vector() {
        let challenge = Challenge::parse(CHALLENGE).unwrap();
        assert!(challenge.matches(VERIFIER).unwrap());
        assert!(!challenge.matches(&VERIFIER.replace('d', "e")).unwrap());
        assert_eq!(challenge.to_text(), CHALLENGE);
    }

    #[test]
    fn rfc7636_4_1_a_verifier_has_43_to_128_unreserved_characters() {
        let challenge = Challenge::parse(CHALLENGE).unwrap();
        let of = |length: usize| challenge.matches(&"a".repeat(length));
        assert!(of(42).is_err());
        assert_eq!(of(43), Ok(false));
        assert_eq!(of(128), Ok(false));
        assert!(of(129).is_err());
        assert!(challenge.matches(&format!("{}+", "a".repeat(50))).is_err());
    }

    #[test]
    fn rfc7636_4_2_malformed_challenges_are_refused() {
        for bad in ["", "abc", VERIFIER.get(1..).unwrap(), &format!("{CHALLENGE}=")] {
            assert!(Challenge::parse(bad).is_err(), "{bad}");
        }
    }
}
