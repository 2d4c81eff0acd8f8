//! A set of permissions as one text: its words in order, with a space between (RFC 6749, 3.3).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of permissions of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordSet<W>(BTreeSet<W>);

impl<W: Copy + Ord> WordSet<W> {
    /// Whether it holds `word`.
    pub fn contains(&self, word: W) -> bool {
        self.0.contains(&word)
    }

    /// Whether all of it is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its members, in order.
    pub fn iter(&self) -> impl Iterator<Item = W> {
        self.0.iter().copied()
    }
}

impl<W: ToString> WordSet<W> {
    pub fn words(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl<W> Default for WordSet<W> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<W: Ord> FromIterator<W> for WordSet<W> {
    fn from_iter<I: IntoIterator<Item = W>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
}

impl<W: Ord + FromStr> FromStr for WordSet<W> {
    type Err = W::Err;

    fn from_str(text: &str) -> Result<Self, W::Err> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::parse).collect()
    }
}

impl<W: ToString> fmt::Display for WordSet<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}
