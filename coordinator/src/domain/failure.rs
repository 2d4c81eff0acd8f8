//! Why something failed, is wrong, or is waiting.

use serde::{Deserialize, Serialize};

/// What is wrong and what to do about it, for an operator: one line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable code for programs, such as `image_not_found`.
    pub code: String,
    pub cause: String,
    /// What to do about it.
    pub fix: String,
}

impl Failure {
    /// A failure that the coordinator itself found.
    pub fn new(code: &str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code: code.to_owned(), cause: cause.into(), fix: fix.into() }
    }
}

/// Cause and fix, one line each.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.cause, self.fix)
    }
}

/// Text of a host, made safe to store and to show: one line of `most` characters at most.
pub fn one_line(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(most).map(plain).collect()
}
