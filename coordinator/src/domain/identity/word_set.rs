//! A set of permissions as text: its words in order, separated by a space (RFC 6749, 3.3).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of permissions of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordSet<W>(BTreeSet<W>);

impl<W: Copy + Ord> WordSet<W> {
    pub fn contains(&self, word: W) -> bool {
        self.0.contains(&word)
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

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
