//! Names that become part of a URL: an app's subdomain, and host names.

use serde::{Deserialize, Serialize};

use crate::model::text_newtype;

/// Subdomains that would shadow the platform's own names or invite phishing in the zone.
const RESERVED: &[&str] = &[
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "apps",
    "auth",
    "autoconfig",
    "autodiscover",
    "billing",
    "buddo",
    "cdn",
    "cname",
    "console",
    "dashboard",
    "dev",
    "dns",
    "docs",
    "edge",
    "ftp",
    "git",
    "harbor",
    "help",
    "host",
    "hosting",
    "id",
    "imap",
    "internal",
    "localhost",
    "login",
    "mail",
    "mx",
    "ns",
    "ns1",
    "ns2",
    "oauth",
    "pop",
    "pop3",
    "postmaster",
    "registry",
    "releases",
    "root",
    "security",
    "smtp",
    "ssh",
    "sso",
    "static",
    "status",
    "support",
    "system",
    "webmail",
    "wpad",
    "www",
];

/// The name of an app below the platform's zone: 1–32 of `[a-z0-9-]`, no hyphen at either end,
/// not reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subdomain(String);

/// Why a text is not a [`Subdomain`]; each message says what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubdomainError {
    /// Zero or more than 32 characters.
    #[error("has {0} characters; use 1 to 32")]
    Length(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("contains {0:?}; use only lowercase letters a-z, digits and hyphens")]
    Character(char),
    /// A hyphen at the start or the end, which DNS forbids (RFC 1123, 2.1).
    #[error("starts or ends with a hyphen; remove it")]
    Hyphen,
    /// Reserved by the platform.
    #[error("is reserved by the platform; choose another name")]
    Reserved,
}

impl Subdomain {
    /// Parses a subdomain.
    pub fn parse(text: &str) -> Result<Self, SubdomainError> {
        let length = text.chars().count();
        if !(1..=32).contains(&length) {
            return Err(SubdomainError::Length(length));
        }
        let foreign = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-');
        if let Some(character) = text.chars().find(foreign) {
            return Err(SubdomainError::Character(character));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(SubdomainError::Hyphen);
        }
        if RESERVED.contains(&text) {
            return Err(SubdomainError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// The full host name of this app in `zone`.
    pub fn host_in(&self, zone: &HostName) -> String {
        format!("{}.{zone}", self.0)
    }
}

text_newtype!(Subdomain, SubdomainError);

/// A fully qualified host name in lowercase letters, digits and hyphens: at least two labels,
/// 253 characters at most, no trailing dot (RFC 1123, 2.1; internationalised names in their
/// `xn--` form).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Why a text is not a [`HostName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Empty, or longer than DNS allows.
    #[error("has {0} characters; a host name has 3 to 253")]
    Length(usize),
    /// A single label.
    #[error("has a single label; write the full name, such as www.example.com")]
    SingleLabel,
    /// A label that is empty, longer than 63, or begins or ends with a hyphen.
    #[error("has the label {0:?}; each label has 1 to 63 characters and no hyphen at its ends")]
    Label(String),
    /// A character outside `[a-z0-9-.]`.
    #[error("contains {0:?}; use a-z, 0-9, hyphens and dots (xn-- form for other alphabets)")]
    Character(char),
    /// The last label is all digits: an IPv4 address or a mistake.
    #[error("ends in a number; an IP address is not a host name")]
    Address,
}

impl HostName {
    /// Parses a host name.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        let length = text.chars().count();
        if !(3..=253).contains(&length) {
            return Err(HostNameError::Length(length));
        }
        let foreign =
            |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
        if let Some(character) = text.chars().find(foreign) {
            return Err(HostNameError::Character(character));
        }
        let bad = |label: &&str| {
            !(1..=63).contains(&label.len()) || label.starts_with('-') || label.ends_with('-')
        };
        if let Some(label) = text.split('.').find(bad) {
            return Err(HostNameError::Label(label.to_owned()));
        }
        let Some((_, last)) = text.rsplit_once('.') else {
            return Err(HostNameError::SingleLabel);
        };
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HostNameError::Address);
        }
        Ok(Self(text.to_owned()))
    }

    /// How many labels the name has: `apps.example.com` has 3.
    pub fn labels(&self) -> usize {
        self.0.split('.').count()
    }

    /// Whether the name is `zone` or below it.
    pub fn is_within(&self, zone: &HostName) -> bool {
        self == zone
            || self.0.strip_suffix(zone.as_str()).is_some_and(|prefix| prefix.ends_with('.'))
    }
}

text_newtype!(HostName, HostNameError);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn validates_subdomains() {
        assert!(Subdomain::parse("a").is_ok());
        assert!(Subdomain::parse(&"a".repeat(32)).is_ok());
        assert_eq!(Subdomain::parse(&"a".repeat(33)), Err(SubdomainError::Length(33)));
        assert_eq!(Subdomain::parse(""), Err(SubdomainError::Length(0)));
        assert_eq!(Subdomain::parse("-a"), Err(SubdomainError::Hyphen));
        assert_eq!(Subdomain::parse("a-"), Err(SubdomainError::Hyphen));
        assert_eq!(Subdomain::parse("My-App"), Err(SubdomainError::Character('M')));
        assert_eq!(Subdomain::parse("a.b"), Err(SubdomainError::Character('.')));
        assert_eq!(Subdomain::parse("admin"), Err(SubdomainError::Reserved));
    }

    #[test]
    fn validates_host_names() {
        assert!(HostName::parse("www.example.com").is_ok());
        assert_eq!(HostName::parse("example"), Err(HostNameError::SingleLabel));
        assert_eq!(HostName::parse("127.0.0.1"), Err(HostNameError::Address));
        assert_eq!(HostName::parse("a..b"), Err(HostNameError::Label(String::new())));
        assert!(HostName::parse("exam ple.com {\n").is_err());
    }

    #[test]
    fn within_compares_whole_labels() {
        let zone = HostName::parse("buddocloud.com").unwrap();
        assert!(HostName::parse("a.buddocloud.com").unwrap().is_within(&zone));
        assert!(!HostName::parse("evilbuddocloud.com").unwrap().is_within(&zone));
    }

    proptest! {
        /// fm_30: no accepted name contains anything that could end a Caddyfile token.
        #[test]
        fn accepted_names_are_inert_in_a_caddyfile(text in ".{0,300}") {
            for accepted in [
                Subdomain::parse(&text).map(String::from).ok(),
                HostName::parse(&text).map(String::from).ok(),
            ].into_iter().flatten() {
                prop_assert!(accepted.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
            }
        }
    }
}
