//! What tells the parts of a deployment apart: its services, their replicas, their content.
//!
//! ```text
//! deployment ─► service ─► replica ─► revision ─► slot
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::text_newtype;

/// The name of a service within its deployment: 1–20 of `[a-z0-9-]`, a letter in front, no hyphen
/// at the end. A DNS label, so that services can find each other by it; short, because it becomes
/// part of the names of containers and secrets.
///
/// `Copy`, because it is part of the key of everything that an agent tracks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    /// Padded with zero bytes, which no name contains: the derived order is the order of the texts.
    bytes: [u8; Self::MAX_LENGTH],
    length: u8,
}

/// Why a text is not a [`ServiceName`]; each message says what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceNameError {
    /// Zero or more than 20 characters.
    #[error("has {0} characters; use 1 to {max}", max = ServiceName::MAX_LENGTH)]
    Length(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("contains {0:?}; use only lowercase letters a-z, digits and hyphens")]
    Character(char),
    /// A digit or a hyphen in front.
    #[error("does not begin with a letter; begin with a-z")]
    Start,
    /// A hyphen at the end.
    #[error("ends with a hyphen; remove it")]
    End,
}

impl ServiceName {
    /// The most characters of a name.
    pub const MAX_LENGTH: usize = 20;

    /// The one service of an app that consists of a single container.
    pub const APP: Self = Self::literal("app");

    /// The first of all names in their order.
    pub const LEAST: Self = Self::literal("a");

    /// The name in a constant; its text must be valid.
    const fn literal(text: &str) -> Self {
        let mut name = Self { bytes: [0; Self::MAX_LENGTH], length: 0 };
        while (name.length as usize) < text.len() {
            name.bytes[name.length as usize] = text.as_bytes()[name.length as usize];
            name.length += 1;
        }
        name
    }

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, ServiceNameError> {
        let length = text.chars().count();
        if !(1..=Self::MAX_LENGTH).contains(&length) {
            return Err(ServiceNameError::Length(length));
        }
        let foreign = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-');
        if let Some(character) = text.chars().find(foreign) {
            return Err(ServiceNameError::Character(character));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(ServiceNameError::Start);
        }
        if text.ends_with('-') {
            return Err(ServiceNameError::End);
        }
        Ok(Self::literal(text))
    }

    /// The text as it was accepted.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.length.into()).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(text: String) -> Result<Self, ServiceNameError> {
        Self::parse(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.as_str().to_owned()
    }
}

impl AsRef<str> for ServiceName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// The number of one of a service's equal containers, from 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ReplicaIndex(u16);

impl ReplicaIndex {
    /// The only replica of a service that has one.
    pub const FIRST: Self = Self(0);

    /// Wraps a number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The plain number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ReplicaIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not a [`ReplicaIndex`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the number of a replica; use digits without leading zeros, 0 to 65535")]
pub struct ReplicaIndexError;

impl FromStr for ReplicaIndex {
    type Err = ReplicaIndexError;

    /// Only the spelling that [`Display`](fmt::Display) writes: a replica has one name.
    fn from_str(text: &str) -> Result<Self, ReplicaIndexError> {
        let number: u16 = text.parse().map_err(|_| ReplicaIndexError)?;
        if number.to_string() == text { Ok(Self(number)) } else { Err(ReplicaIndexError) }
    }
}

/// A digest of a service's content, environment included, keyed by the coordinator that made it: a
/// host can compare two of them, but not test guesses of a secret value against one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpecDigest(String);

/// A text that is not a [`SpecDigest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a spec digest; it has 64 lowercase hex digits")]
pub struct SpecDigestError;

impl SpecDigest {
    /// Parses 64 lowercase hex digits.
    pub fn parse(text: &str) -> Result<Self, SpecDigestError> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(is_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SpecDigestError)
        }
    }

    /// From the 32 bytes of a keyed digest.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

text_newtype!(SpecDigest, SpecDigestError);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn service_names_at_the_limits() {
        assert_eq!(ServiceName::parse("app"), Ok(ServiceName::APP));
        assert!(ServiceName::parse("a").is_ok());
        assert!(ServiceName::parse(&"a".repeat(20)).is_ok());
        assert_eq!(ServiceName::parse(&"a".repeat(21)), Err(ServiceNameError::Length(21)));
        assert_eq!(ServiceName::parse(""), Err(ServiceNameError::Length(0)));
        assert_eq!(ServiceName::parse("1a"), Err(ServiceNameError::Start));
        assert_eq!(ServiceName::parse("-a"), Err(ServiceNameError::Start));
        assert_eq!(ServiceName::parse("a-"), Err(ServiceNameError::End));
        assert_eq!(ServiceName::parse("a/b"), Err(ServiceNameError::Character('/')));
        // Longer in bytes than in characters.
        assert_eq!(ServiceName::parse(&"é".repeat(20)), Err(ServiceNameError::Character('é')));
    }

    #[test]
    fn a_replica_has_one_spelling() {
        assert_eq!("0".parse(), Ok(ReplicaIndex::FIRST));
        assert_eq!("65535".parse(), Ok(ReplicaIndex::new(u16::MAX)));
        for text in ["", "00", "01", "+1", "-0", "65536", "1 "] {
            assert_eq!(text.parse::<ReplicaIndex>(), Err(ReplicaIndexError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_valid_name_keeps_its_text_and_its_order(
            one in "[a-z]([a-z0-9-]{0,18}[a-z0-9])?", other in "[a-z]([a-z0-9-]{0,18}[a-z0-9])?",
        ) {
            let parsed = |text: &str| ServiceName::parse(text).unwrap();
            prop_assert_eq!(parsed(&one).to_string(), &one[..]);
            prop_assert_eq!(parsed(&one).cmp(&parsed(&other)), one.cmp(&other));
            let json = serde_json::to_string(&parsed(&one)).unwrap();
            prop_assert_eq!(&json, &format!("{one:?}"));
            prop_assert_eq!(serde_json::from_str::<ServiceName>(&json).unwrap(), parsed(&one));
        }

        /// Whatever is accepted is a DNS label and ends no token of a name it becomes part of.
        #[test]
        fn only_dns_labels_are_names(
            // The second kind is nearly valid, or hardly any case would reach the last checks.
            text in prop_oneof!["[a-z0-9A-Z/._ \u{e9}-]{0,24}", "[a-z0-9-]{1,22}"],
        ) {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let valid = (1..=20).contains(&text.len())
                && text.bytes().all(inner)
                && text.as_bytes()[0].is_ascii_lowercase()
                && !text.ends_with('-');
            prop_assert_eq!(ServiceName::parse(&text).is_ok(), valid);
        }

        #[test]
        fn a_spec_digest_of_bytes_is_one(bytes in any::<[u8; 32]>()) {
            let digest = SpecDigest::from_bytes(&bytes);
            prop_assert_eq!(SpecDigest::parse(digest.as_str()), Ok(digest.clone()));
        }
    }
}
