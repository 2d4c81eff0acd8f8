//! Why something failed, is wrong, or waits.

use serde::{Deserialize, Serialize};

/// What is wrong and what to do about it, in words for an operator: one line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word for programs, such as `image_not_found`.
    pub code: String,
    pub cause: String,
    /// What to do about it.
    pub fix: String,
}

impl Failure {
    /// One of the coordinator's own.
    pub fn new(code: &str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code: code.to_owned(), cause: cause.into(), fix: fix.into() }
    }
}

/// Cause and fix, a line each.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.cause, self.fix)
    }
}
