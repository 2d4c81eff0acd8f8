//! What each lower-level error means to the user: its kind, and what to do. In one
//! place, so that the same problem reads the same in every command.

use buddo_shared::api::problem::{FieldError, Problem};

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::env_vars::EnvError;
use crate::error::{CliError, Kind};
use crate::session::SessionError;

const LOG_IN: &str = "log in with: buddo login";
const OTHER_KEY: &str = "BUDDO_API_KEY holds a key that the API does not accept: set it to another \
                         one, made with `buddo keys create NAME`, or unset it to use your login";

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let error = match error {
            ConfigError::Session(error) => return error.into(),
            error => error,
        };
        let hint = match &error {
            ConfigError::NoHome | ConfigError::Session(_) => None,
            ConfigError::Read { .. } => Some("check that the file is there and readable"),
            ConfigError::Parse { .. } => {
                Some("it knows two settings: api = \"URL\", ca = \"FILE\"")
            }
            ConfigError::Api { .. } => {
                Some("it comes from --api, BUDDO_API, config.toml or the last login, in this order")
            }
        };
        let kind =
            if matches!(error, ConfigError::Api { .. }) { Kind::Usage } else { Kind::Failure };
        let error = Self::wrap(kind, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl From<EnvError> for CliError {
    fn from(error: EnvError) -> Self {
        match error {
            EnvError::Unset(_) => {
                Self::wrap(Kind::Usage, error).hint("write --env KEY=VALUE, or export the variable")
            }
            EnvError::Line { .. } => {
                Self::wrap(Kind::Refused, error).hint("the format is in: buddo deploy --help")
            }
            EnvError::TooLong(_) => {
                Self::wrap(Kind::Refused, error).hint("an app takes 128 KiB of variables at most")
            }
            EnvError::Read { .. } => {
                Self::wrap(Kind::Failure, error).hint("check --env-file and that it is readable")
            }
        }
    }
}

impl From<SessionError> for CliError {
    fn from(error: SessionError) -> Self {
        let hint = match &error {
            SessionError::Exposed { path, .. } => format!(
                "anyone who could read it has your tokens: close it with `chmod 600 {}`, and log out \
                 and in again if others use this machine",
                path.display()
            ),
            SessionError::Damaged(path) => {
                format!("remove {} and log in again with: buddo login", path.display())
            }
            SessionError::Newer { .. } => "update buddo".to_owned(),
            SessionError::Locked(_) => "end the other buddo, then try again".to_owned(),
            SessionError::Read { .. } | SessionError::Write { .. } => {
                "check the owner and mode of the file and of its folder".to_owned()
            }
        };
        Self::wrap(Kind::Failure, error).hint(hint)
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let retry_after = error.retry_after().map(|after| after.as_secs());
        match error {
            ClientError::Session(error) => error.into(),
            ClientError::Problem { problem, .. } => of_problem(*problem),
            ClientError::NotLoggedIn { .. }
            | ClientError::KeyAlone { .. }
            | ClientError::SessionEnded { .. } => Self::wrap(Kind::NotLoggedIn, error).hint(LOG_IN),
            ClientError::KeyRefused { problem } => of_problem(*problem).hint(OTHER_KEY),
            ClientError::Connect { .. } => Self::wrap(Kind::Unavailable, error)
                .hint("check the network and the address (--api, BUDDO_API)"),
            ClientError::Certificate { .. } => Self::wrap(Kind::Unavailable, error).hint(
                "if the API has its own certificate authority, name its PEM file with --ca or \
                 BUDDO_CA; otherwise stop here",
            ),
            ClientError::Broken { .. } | ClientError::Timeout { .. } => {
                Self::wrap(Kind::Unavailable, error)
                    .hint("the request may or may not have been carried out; look with: buddo list")
            }
            ClientError::OAuth { status, error: ref oauth } => {
                let code = oauth.error.clone();
                let kind = if status >= 500 { Kind::Unavailable } else { Kind::Failure };
                Self::wrap(kind, error).code(code)
            }
            ClientError::Unexpected { status: 429, .. } => {
                Self::wrap(Kind::RateLimited, error).hint(wait(retry_after))
            }
            ClientError::Unexpected { status, .. } => {
                let kind = if status >= 500 { Kind::Unavailable } else { Kind::Failure };
                Self::wrap(kind, error)
                    .hint("check that the address is the API's (--api, BUDDO_API)")
            }
            ClientError::Redirect { ref to, .. } => {
                let hint = format!("if you trust it, use that address: --api {to}");
                Self::wrap(Kind::Failure, error).hint(hint)
            }
            ClientError::Decode { .. } | ClientError::TooLong { .. } => {
                Self::wrap(Kind::Failure, error)
                    .hint("check that the address is the API's, and whether buddo is out of date")
            }
            ClientError::Ca(_) => Self::wrap(Kind::Usage, error)
                .hint("give a file that has -----BEGIN CERTIFICATE----- in it"),
            ClientError::Setup(_) => Self::wrap(Kind::Failure, error)
                .hint("install the system's root certificates (ca-certificates), or give --ca"),
        }
    }
}

/// The API's own message says what to do; a hint is added if one of our commands does it.
fn of_problem(problem: Problem) -> CliError {
    let (kind, hint) = match problem.status {
        401 => (Kind::NotLoggedIn, Some(LOG_IN)),
        403 => (Kind::Forbidden, None),
        404 => (Kind::NotFound, Some(not_found(&problem.code))),
        429 => (Kind::RateLimited, None),
        400..=499 => (Kind::Refused, None),
        _ => (Kind::Unavailable, None),
    };
    // The detail of a validation error repeats its first field under the API's name.
    let message = if problem.errors.is_empty() { problem.detail } else { problem.title };
    let details = problem.errors.iter().map(in_options).collect();
    let error = CliError::new(kind, message).details(details).code(problem.code);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn not_found(code: &str) -> &'static str {
    match code {
        "tier_not_found" => "see the tiers with: buddo tiers",
        "revision_not_found" => "see what there is with: buddo revisions NAME",
        _ => "see what there is with: buddo list",
    }
}

fn wait(retry_after: Option<u64>) -> String {
    match retry_after {
        Some(seconds) => format!("try again in {seconds} s"),
        None => "try again in a minute".to_owned(),
    }
}

/// Bad fields of a deployment, found here or by the API, with the command line's option names.
pub(crate) fn bad_fields(errors: &[FieldError]) -> CliError {
    CliError::new(Kind::Refused, "the deployment is not valid; nothing was sent")
        .details(errors.iter().map(in_options).collect())
        .code("validation_failed")
}

/// A field error with the option that sets the field.
fn in_options(error: &FieldError) -> String {
    let option = match error.pointer.as_str() {
        "/subdomain" => "--name",
        "/image" => "--image",
        "/tier" => "--tier",
        "/port" => "--port",
        "/custom_domain" => "--domain",
        "/strategy" => "--strategy",
        "/env_vars" => "--env",
        other => match other.strip_prefix("/env_vars/") {
            Some(name) => {
                let name = name.replace("~1", "/").replace("~0", "~");
                return format!("--env {name}: {}", error.detail);
            }
            None => other,
        },
    };
    format!("{option}: {}", error.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> CliError {
        let problem = Box::new(Problem::new(status, code, "Title", "detail"));
        ClientError::Problem { problem, retry_after: None }.into()
    }

    #[test]
    fn the_http_status_decides_the_kind() {
        let kinds = [
            (400, Kind::Refused),
            (401, Kind::NotLoggedIn),
            (403, Kind::Forbidden),
            (404, Kind::NotFound),
            (409, Kind::Refused),
            (413, Kind::Refused),
            (422, Kind::Refused),
            (429, Kind::RateLimited),
            (500, Kind::Unavailable),
            (503, Kind::Unavailable),
        ];
        for (status, kind) in kinds {
            let error = problem(status, "some_code");
            assert_eq!((error.kind, error.message.as_str()), (kind, "detail"), "{status}");
            assert_eq!(error.code.as_deref(), Some("some_code"));
        }
    }

    #[test]
    fn hints_fit_the_code() {
        assert_eq!(problem(404, "tier_not_found").hint.unwrap(), "see the tiers with: buddo tiers");
        assert_eq!(
            problem(404, "revision_not_found").hint.unwrap(),
            "see what there is with: buddo revisions NAME"
        );
        assert_eq!(problem(404, "not_found").hint.unwrap(), "see what there is with: buddo list");
        assert_eq!(problem(401, "invalid_token").hint.unwrap(), "log in with: buddo login");
        assert_eq!(problem(429, "deployment_limit_reached").hint, None);
        assert_eq!(problem(503, "no_capacity").hint, None);
    }

    #[test]
    fn invalid_fields_are_named_by_their_option() {
        let lines = bad_fields(&[
            FieldError::new("/subdomain", "is reserved"),
            FieldError::new("/env_vars/a~1b", "is not a valid variable name"),
            FieldError::new("/new_field", "is new"),
        ])
        .details;
        assert_eq!(
            lines,
            [
                "--name: is reserved",
                "--env a/b: is not a valid variable name",
                "/new_field: is new"
            ]
        );
    }
}
