//! The code that a person types to connect a device (RFC 8628, 6.1).

use std::fmt;

use crate::crypto::random::{Random, bytes};
use crate::domain::identity::HashedToken;

/// Consonants only, so that no words appear; easily confused ones are left out.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// 20^8: about 34 bits, against somebody who may try 60 a minute for 15 minutes.
const LENGTH: usize = 8;

/// A user code. It grants nothing by itself: it names a request that a logged-in user then decides
/// on.
#[derive(Clone, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// A new code, uniformly random.
    pub fn generate(random: &dyn Random) -> Self {
        let mut text = String::with_capacity(LENGTH);
        while text.len() < LENGTH {
            // 240 is the largest multiple of 20 in a byte: higher values would introduce a bias.
            let fair = bytes::<16>(random).into_iter().filter(|byte| *byte < 240);
            for byte in fair.take(LENGTH - text.len()) {
                text.push(char::from(ALPHABET[usize::from(byte % 20)]));
            }
        }
        Self(text)
    }

    /// Parses a code as people type it: either case, any spaces and hyphens. Rejects everything
    /// else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let letters = text.chars().filter(|c| !c.is_whitespace() && !"-–_.".contains(*c));
        let code: String = letters.map(|c| c.to_ascii_uppercase()).collect();
        let known = code.bytes().all(|byte| ALPHABET.contains(&byte));
        (known && code.len() == LENGTH).then_some(Self(code))
    }

    /// What the store keeps of it.
    pub fn hashed(&self) -> HashedToken {
        HashedToken::of(&self.0)
    }
}

/// Formatted for people: `BCDF-GHJK`.
impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = self.0.split_at(LENGTH / 2);
        write!(f, "{left}-{right}")
    }
}

impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::random::SystemRandom;

    #[test]
    fn rfc8628_6_1_a_code_is_parsed_however_people_type_it() {
        let code = UserCode::generate(&SystemRandom);
        let shown = code.to_string();
        assert_eq!((shown.len(), &shown[4..5]), (9, "-"));
        let spaced = format!(" {} {} ", &shown[..4], &shown[5..]);
        for typed in [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), spaced] {
            assert_eq!(UserCode::parse(&typed), Some(code.clone()), "{typed}");
        }
    }

    #[test]
    fn malformed_codes_are_refused() {
        let long = "B".repeat(65);
        for text in ["", "BCDF-GHJ", "BCDF-GHJKL", "BCDF-GHJA", "BCDF-GHJ1", "BCDF/GHJK", &long] {
            assert!(UserCode::parse(text).is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", UserCode::generate(&SystemRandom)), "UserCode([redacted])");
    }

    #[test]
    fn bytes_that_would_bias_the_letters_are_skipped() {
        #[derive(Debug)]
        struct Counting(std::sync::atomic::AtomicU8);
        impl Random for Counting {
            fn fill(&self, buffer: &mut [u8]) {
                for byte in buffer {
                    *byte = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        // 256 bytes in 16 draws: each of the 240 usable ones may occur, the others never.
        let random = Counting(250.into());
        let code = UserCode::generate(&random);
        assert_eq!(code.0, "BCDFGHJK", "250 to 255 are left out");
    }

    proptest! {
        #[test]
        fn any_accepted_text_round_trips(text in ".{0,80}") {
            if let Some(code) = UserCode::parse(&text) {
                prop_assert_eq!(UserCode::parse(&code.to_string()), Some(code));
            }
        }
    }
}
