//! The text of an API key: `buddo_key_`, 30 random letters and digits, and a checksum of six.
//!
//! The prefix lets scanners of public code find leaked keys; the checksum lets them tell a key from
//! a lookalike without asking a server.

use std::fmt;

use buddo_shared::model::secret::Secret;

use crate::crypto::random::{Random, bytes};
use crate::domain::identity::HashedToken;

/// The prefix of every key.
pub const PREFIX: &str = "buddo_key_";
/// In order of value, as in GitHub's checksums.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^30: about 178 bits.
const RANDOM: usize = 30;
/// 62^6 is more than 2^32.
const CHECKSUM: usize = 6;
/// Characters of the random part shown in lists: 24 bits, enough to tell keys apart but useless for
/// access.
const SHOWN: usize = 4;

/// A key as its holder has it. `Debug` does not print it.
#[derive(Clone)]
pub struct ApiKeyText(Secret);

/// Why a text is not a key. None of these reveals the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// It has the wrong prefix.
    #[error("does not begin with {PREFIX}")]
    Prefix,
    /// It is too long or too short, or has characters other than letters and digits.
    #[error("does not have {} letters and digits after {PREFIX}", RANDOM + CHECKSUM)]
    Form,
    /// It was mistyped or truncated.
    #[error("has a wrong checksum; it was mistyped")]
    Checksum,
}

impl ApiKeyText {
    /// A new key, uniformly random.
    pub fn generate(random: &dyn Random) -> Self {
        let mut text = String::with_capacity(PREFIX.len() + RANDOM + CHECKSUM);
        text.push_str(PREFIX);
        while text.len() < PREFIX.len() + RANDOM {
            // 248 is the largest multiple of 62 in a byte: higher values would introduce a bias.
            let fair = bytes::<32>(random).into_iter().filter(|byte| *byte < 248);
            for byte in fair.take(PREFIX.len() + RANDOM - text.len()) {
                text.push(char::from(ALPHABET[usize::from(byte % 62)]));
            }
        }
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Self(Secret::new(text))
    }

    /// Parses a key; rejects everything else.
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let rest = text.strip_prefix(PREFIX).ok_or(ApiKeyError::Prefix)?;
        let known = rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if rest.len() != RANDOM + CHECKSUM || !known {
            return Err(ApiKeyError::Form);
        }
        // All of it is ASCII: no character is split.
        let (body, claimed) = text.split_at(PREFIX.len() + RANDOM);
        if checksum(body) == claimed {
            Ok(Self(Secret::new(text)))
        } else {
            Err(ApiKeyError::Checksum)
        }
    }

    /// What the store keeps: the key is too random to be guessed from its hash.
    pub fn hashed(&self) -> HashedToken {
        HashedToken::of(self.0.expose())
    }

    /// The first characters of the key, for lists.
    pub fn hint(&self) -> String {
        self.0.expose()[..PREFIX.len() + SHOWN].to_owned()
    }

    /// The text, for its holder.
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyText([redacted])")
    }
}

/// CRC-32 (ISO-HDLC, as zlib's) of everything before it, in base 62, most significant first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::random::SystemRandom;

    /// Repeats one byte: the text is known.
    struct Steady(u8);

    impl Random for Steady {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn a_key_has_the_form_that_scanners_look_for() {
        let key = ApiKeyText::generate(&Steady(10)).into_secret();
        // Checksum computed in Python: binascii.crc32(b"buddo_key_" + b"A" * 30) in base 62.
        assert_eq!(key.expose(), "buddo_key_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0QpEeN");
    }

    #[test]
    fn errors_name_the_fault_without_the_key() {
        let text = ApiKeyText::generate(&SystemRandom).into_secret();
        let text = text.expose();
        let parse = |text: &str| ApiKeyText::parse(text).map(drop);
        assert_eq!(parse("buddo_at_x"), Err(ApiKeyError::Prefix));
        assert_eq!(parse(""), Err(ApiKeyError::Prefix));
        assert_eq!(parse(PREFIX), Err(ApiKeyError::Form));
        assert_eq!(parse(&text[..text.len() - 1]), Err(ApiKeyError::Form));
        assert_eq!(parse(&format!("{text}a")), Err(ApiKeyError::Form));
        assert_eq!(parse(&format!("{PREFIX}{}", "ä".repeat(18))), Err(ApiKeyError::Form));
        assert_eq!(parse(&format!("{PREFIX}{}", "A".repeat(36))), Err(ApiKeyError::Checksum));
        let key = ApiKeyText::parse(text).unwrap();
        assert_eq!(format!("{key:?}"), "ApiKeyText([redacted])");
        assert!(text.starts_with(&key.hint()) && key.hint().len() == PREFIX.len() + 4);
    }

    /// Replays bytes chosen by a test, over and over.
    struct Played(Vec<u8>);

    impl Random for Played {
        fn fill(&self, buffer: &mut [u8]) {
            for (to, from) in buffer.iter_mut().zip(self.0.iter().cycle()) {
                *to = *from;
            }
        }
    }

    proptest! {
        #[test]
        fn generated_keys_round_trip(bytes in prop::collection::vec(0_u8..248, 1..64)) {
            let key = ApiKeyText::generate(&Played(bytes));
            let text = key.clone().into_secret();
            let read = ApiKeyText::parse(text.expose()).unwrap();
            prop_assert_eq!(read.hashed(), key.hashed());
            let secret = read.into_secret();
            prop_assert_eq!(secret.expose(), text.expose());
        }

        #[test]
        fn one_wrong_character_is_noticed(at in 10_usize..46, to in "[0-9A-Za-z]") {
            let text = ApiKeyText::generate(&SystemRandom).into_secret();
            let mut wrong = text.expose().to_owned();
            wrong.replace_range(at..=at, &to);
            let same = wrong == text.expose();
            prop_assert_eq!(ApiKeyText::parse(&wrong).is_ok(), same);
        }

        #[test]
        fn any_accepted_text_round_trips(text in "\\PC*", form in "buddo_key_[0-9A-Za-z]{30,42}") {
            for text in [text, form] {
                if let Ok(key) = ApiKeyText::parse(&text) {
                    // One in four thousand million has a correct checksum: then it is a key.
                    let secret = key.into_secret();
                    prop_assert_eq!(secret.expose(), text.as_str());
                }
            }
        }
    }
}
