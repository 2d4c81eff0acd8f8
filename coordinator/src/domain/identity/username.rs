//! Public names of accounts.

use std::fmt;

/// A public name: 3–32 of `[A-Za-z0-9_-]`, starting with a letter or digit. Names that differ only
/// in case are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

/// Why a text is not a [`Username`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsernameError {
    /// Fewer than 3 or more than 32 characters.
    #[error("has {0} characters; use 3 to 32")]
    Length(usize),
    /// A character that is not allowed.
    #[error("contains {0:?}; use only letters a-z, digits, hyphens and underscores")]
    Character(char),
    /// A hyphen or underscore at the start.
    #[error("starts with a hyphen or underscore; start it with a letter or digit")]
    Start,
    /// The platform's own name in audit logs.
    #[error("is reserved by the platform; choose another name")]
    Reserved,
}

impl Username {
    pub fn parse(text: &str) -> Result<Self, UsernameError> {
        let length = text.chars().count();
        if !(3..=32).contains(&length) {
            return Err(UsernameError::Length(length));
        }
        let foreign = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if let Some(character) = text.chars().find(foreign) {
            return Err(UsernameError::Character(character));
        }
        if text.starts_with(['-', '_']) {
            return Err(UsernameError::Start);
        }
        if ["platform", "admin", "root", "system", "buddo"]
            .iter()
            .any(|name| text.eq_ignore_ascii_case(name))
        {
            return Err(UsernameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that must be unique.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Username {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, UsernameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_violated_rule_has_its_own_error() {
        assert_eq!(Username::parse("My-op_1").unwrap().key(), "my-op_1");
        assert_eq!(Username::parse("ab").unwrap_err(), UsernameError::Length(2));
        assert_eq!(Username::parse(&"a".repeat(33)).unwrap_err(), UsernameError::Length(33));
        assert_eq!(Username::parse("a b").unwrap_err(), UsernameError::Character(' '));
        assert_eq!(Username::parse("jörg").unwrap_err(), UsernameError::Character('ö'));
        assert_eq!(Username::parse("-abc").unwrap_err(), UsernameError::Start);
        assert_eq!(Username::parse("Platform").unwrap_err(), UsernameError::Reserved);
    }
}
