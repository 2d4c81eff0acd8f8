//! Names of organisations, teams and keys, and the slugs that commands take.

use std::fmt;

/// A name for people: 1 to 64 printable characters, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

/// A text that is not a [`Label`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 printable characters")]
pub struct LabelError;

impl Label {
    /// Parses a name; spaces around it are dropped.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let text = text.trim();
        let fits = (1..=64).contains(&text.chars().count());
        if fits && !text.chars().any(unprintable) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LabelError)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters and those that change the text direction: a name must not rewrite the line it
/// is printed in.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A slug: 2 to 40 of `[a-z0-9-]`, no hyphen at either end. An account's own organisation has `@`
/// and its username instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slug(String);

/// A text that is not a [`Slug`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 2 to 40 of a-z, 0-9 and hyphens, with no hyphen at either end")]
pub struct SlugError;

impl Slug {
    /// Parses a slug that a user chose.
    pub fn parse(text: &str) -> Result<Self, SlugError> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let hyphens = text.starts_with('-') || text.ends_with('-');
        let fits = (2..=40).contains(&text.len()) && text.bytes().all(known) && !hyphens;
        if fits { Ok(Self(text.to_owned())) } else { Err(SlugError) }
    }

    /// Derives a slug from a name, if its letters and digits allow it.
    pub fn of(label: &Label) -> Result<Self, SlugError> {
        let mut text = String::new();
        for c in label.as_str().chars().map(|c| c.to_ascii_lowercase()) {
            if c.is_ascii_alphanumeric() {
                text.push(c);
            } else if !text.is_empty() && !text.ends_with('-') {
                text.push('-');
            }
        }
        text.truncate(40);
        Self::parse(text.trim_end_matches('-'))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_printable_line() {
        assert_eq!(Label::parse("  Jörg & Co. ").unwrap().as_str(), "Jörg & Co.");
        for bad in ["", "  ", "a\nb", "a\u{202e}b", "\u{200b}", &"x".repeat(65)] {
            assert_eq!(Label::parse(bad), Err(LabelError), "{bad:?}");
        }
    }

    #[test]
    fn a_slug_is_given_or_derived_from_the_label() {
        let of = |text: &str| Slug::of(&Label::parse(text).unwrap()).map(|slug| slug.to_string());
        assert_eq!(of("Acme  Web, Inc.").unwrap(), "acme-web-inc");
        assert_eq!(of("-- A1 --").unwrap(), "a1");
        assert_eq!(of(&"ab ".repeat(20)).unwrap().len(), 40);
        assert!(of("日本").is_err());
        for bad in ["", "a", "-ab", "ab-", "Ab", "@ab", "a_b", "a/b", &"a".repeat(41)] {
            assert_eq!(Slug::parse(bad), Err(SlugError), "{bad:?}");
        }
        assert_eq!(Slug::parse("a-1").unwrap().as_str(), "a-1");
    }
}
