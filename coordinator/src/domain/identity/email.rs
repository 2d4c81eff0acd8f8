//! Mail addresses.

use std::fmt;

use lettre::Address;

/// A mail address that can receive mail. Two spellings that differ only in case are one account:
/// [`key`](Self::key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

/// Why a text is not an [`Email`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// More than 254 characters (RFC 5321, 4.5.3.1.3).
    #[error("is longer than 254 characters; use a shorter address")]
    Long,
    /// Not of the form `name@domain`.
    #[error("is not a valid mail address; write it as name@example.com")]
    Malformed,
}

impl Email {
    /// Parses an address; spaces around it are dropped.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let text = text.trim();
        if text.len() > 254 {
            return Err(EmailError::Long);
        }
        let address: Address = text.parse().map_err(|_| EmailError::Malformed)?;
        // Quoted local parts and address literals are legal, but never intended.
        let plain = !address.user().contains('"') && address.domain().contains('.');
        if plain && !address.domain().contains('[') && text.is_ascii() {
            Ok(Self(text.to_owned()))
        } else {
            Err(EmailError::Malformed)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that must be unique.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Email {
    type Err = EmailError;

    fn from_str(text: &str) -> Result<Self, EmailError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_valid_addresses() {
        assert_eq!(Email::parse(" You@Example.com ").unwrap().as_str(), "You@Example.com");
        assert_eq!(Email::parse("You@Example.com").unwrap().key(), "you@example.com");
        for bad in [
            "",
            "you",
            "you@",
            "@example.com",
            "you@localhost",
            "a@b.c\r\nBcc: x@y.z",
            "you@[127.0.0.1]",
            "a b@example.com",
        ] {
            assert_eq!(Email::parse(bad).unwrap_err(), EmailError::Malformed, "{bad:?}");
        }
        let long = format!("{}@example.com", "a".repeat(250));
        assert_eq!(Email::parse(&long).unwrap_err(), EmailError::Long);
    }
}
