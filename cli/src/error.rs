//! The one error that reaches the user: its kind, what is wrong, why, and what to do.
//! Only the kind decides the exit code, so that scripts can rely on it.

use std::error::Error;

/// The kind of error that ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something on this machine, or a nonsensical answer.
    Failure,
    /// The command line is wrong.
    Usage,
    /// No login, or one that the API no longer accepts.
    NotLoggedIn,
    /// No such deployment, tier or account.
    NotFound,
    /// The input breaks a rule; nothing was changed.
    Refused,
    /// Too many requests, or a limit of the account.
    RateLimited,
    /// The API cannot be reached, or is failing itself.
    Unavailable,
    /// The API accepted, but the deployment did not become live.
    DeployFailed,
    /// The account may not do this.
    Forbidden,
    /// The command gave up waiting; the deployment goes on.
    StillGoing,
    Interrupted,
}

impl Kind {
    /// Every kind, in the order of exit codes.
    pub(crate) const ALL: [Self; 11] = [
        Self::Failure,
        Self::Usage,
        Self::NotLoggedIn,
        Self::NotFound,
        Self::Refused,
        Self::RateLimited,
        Self::Unavailable,
        Self::DeployFailed,
        Self::Forbidden,
        Self::StillGoing,
        Self::Interrupted,
    ];

    /// The process's exit code.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotLoggedIn => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
            Self::RateLimited => 6,
            Self::Unavailable => 7,
            Self::DeployFailed => 8,
            Self::Forbidden => 9,
            Self::StillGoing => 10,
            // 128 + SIGINT, as shells report it.
            Self::Interrupted => 130,
        }
    }

    /// A stable word for programs that read `--json` errors.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::NotLoggedIn => "not_logged_in",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::DeployFailed => "deploy_failed",
            Self::Forbidden => "forbidden",
            Self::StillGoing => "still_going",
            Self::Interrupted => "interrupted",
        }
    }

    /// One line for `buddo help` and the manual.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Failure => "something on this machine failed, or an answer made no sense",
            Self::Usage => "the command line is wrong",
            Self::NotLoggedIn => "not logged in; run `buddo login`",
            Self::NotFound => "no such deployment or tier",
            Self::Refused => "the input was refused and nothing was changed",
            Self::RateLimited => "too many requests, or a limit of the account is reached",
            Self::Unavailable => "the API cannot be reached or is in trouble",
            Self::DeployFailed => "the deployment did not become live",
            Self::Forbidden => "the account may not do this",
            Self::StillGoing => "gave up waiting; the deploy goes on",
            Self::Interrupted => "interrupted by Ctrl-C",
        }
    }
}

/// A failed command, described for the user who ran it.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    /// What is wrong, in one line.
    pub(crate) message: String,
    /// One line each, such as every bad field.
    pub(crate) details: Vec<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The API's code, if it sent one.
    pub(crate) code: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CliError {
    /// An error of `kind` that says `message`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            hint: None,
            code: None,
            source: None,
        }
    }

    /// Wraps a lower error: its text is the message, its sources follow as causes.
    pub(crate) fn wrap(kind: Kind, error: impl Error + Send + Sync + 'static) -> Self {
        let message = error.to_string();
        Self { source: Some(Box::new(error)), ..Self::new(kind, message) }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds lines of detail.
    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// Adds the API's own code.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The causes below the message, outermost first. A cause that only repeats the one above it
    /// is left out: some libraries print their source in their own text.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next = self.source.as_ref().and_then(|error| error.source());
        while let Some(error) = next {
            let text = error.to_string();
            let above = causes.last().unwrap_or(&self.message);
            if !above.contains(&text) {
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_names_are_stable() {
        let table: Vec<_> =
            Kind::ALL.iter().map(|kind| (kind.exit_code(), kind.as_str())).collect();
        assert_eq!(
            table,
            [
                (1, "failure"),
                (2, "usage"),
                (3, "not_logged_in"),
                (4, "not_found"),
                (5, "refused"),
                (6, "rate_limited"),
                (7, "unavailable"),
                (8, "deploy_failed"),
                (9, "forbidden"),
                (10, "still_going"),
                (130, "interrupted"),
            ]
        );
    }

    #[test]
    fn the_manual_has_every_exit_code() {
        let manual = include_str!("../../docs/cli.md");
        for kind in Kind::ALL {
            let (code, word, meaning) = (kind.exit_code(), kind.as_str(), kind.meaning());
            let row = format!("| {code} | `{word}` | {meaning} |\n");
            assert!(manual.contains(&row), "docs/cli.md lacks: {row}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_list_only_the_error_sources() {
        let error = CliError::wrap(Kind::Failure, Outer(std::io::Error::other("disk on fire")));
        assert_eq!(error.message, "cannot read the file");
        assert_eq!(error.causes(), ["disk on fire"]);
    }
}
