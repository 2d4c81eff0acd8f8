//! `buddo login`.

use std::io::{BufRead as _, Read as _};

use buddo_shared::api::auth::Login;
use buddo_shared::model::secret::Secret;

use super::{Context, login_browser};
use crate::args;
use crate::client::{Api, ClientError};
use crate::error::{CliError, Kind};
use crate::session::Account;
use crate::ui::Ui;

const PASSWORD_VARIABLE: &str = "BUDDO_PASSWORD";

/// Far more than three answers take.
const MAX_INPUT: u64 = 64 * 1024;

pub(super) async fn run(context: &mut Context<'_>, args: args::Login) -> Result<(), CliError> {
    if args.web {
        return login_browser::web(context).await;
    }
    if args.device {
        return login_browser::device(context).await;
    }
    let mut input = Input::new(context.ui, std::io::stdin().lock().take(MAX_INPUT));
    let email = match args.email {
        Some(email) => email,
        None => input.line("Email:", "--email, or a line on standard input")?,
    };
    let password = input.password()?;
    let mut credentials = Login { email, password, totp_code: args.totp_code.map(Secret::new) };
    let account = match context.api.log_in(&credentials).await {
        Err(ClientError::Problem { problem, .. })
            if problem.totp_required == Some(true) && credentials.totp_code.is_none() =>
        {
            credentials.totp_code = Some(Secret::new(input.code()?));
            context.api.log_in(&credentials).await
        }
        other => other,
    };
    greet(context, &account.map_err(refused)?)
}

/// Does something that requires the password again, and a one-time code if the account has them.
pub(super) async fn with_proof<T>(
    context: &mut Context<'_>,
    totp_code: Option<String>,
    act: impl AsyncFn(&Api, Secret, Option<Secret>) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    let mut input = Input::new(context.ui, std::io::stdin().lock().take(MAX_INPUT));
    let password = input.password()?;
    let code = totp_code.map(Secret::new);
    let done = match act(&context.api, password.clone(), code.clone()).await {
        Err(ClientError::Problem { problem, .. })
            if problem.totp_required == Some(true) && code.is_none() =>
        {
            let code = Some(Secret::new(input.code()?));
            act(&context.api, password, code).await
        }
        other => other,
    };
    Ok(done?)
}

/// One secret, from the terminal or from standard input.
pub(super) fn secret_line(context: &mut Context<'_>, question: &str) -> Result<Secret, CliError> {
    let mut input = Input::new(context.ui, std::io::stdin().lock().take(MAX_INPUT));
    input.secret(question, "an argument, or a line on standard input")
}

/// Says who is logged in now.
pub(super) fn greet(context: &mut Context<'_>, account: &Account) -> Result<(), CliError> {
    if context.ui.is_json() {
        return context.ui.json(account);
    }
    context.ui.line(&format!("Logged in as {}", account.username))
}

/// For a login, a 401 does not mean that a login is missing, so the API's message gets no hint.
fn refused(error: ClientError) -> CliError {
    let unauthorised = error.status() == Some(401);
    let mut error = CliError::from(error);
    if unauthorised {
        error.hint = None;
    }
    error
}

/// The user at the terminal, or the lines of standard input.
struct Input<'a, R> {
    ui: &'a mut Ui,
    lines: std::io::BufReader<R>,
}

impl<'a, R: std::io::Read> Input<'a, R> {
    fn new(ui: &'a mut Ui, reader: R) -> Self {
        Self { ui, lines: std::io::BufReader::new(reader) }
    }

    fn password(&mut self) -> Result<Secret, CliError> {
        match std::env::var(PASSWORD_VARIABLE) {
            Ok(password) => Ok(Secret::new(password)),
            Err(_) => self.secret("Password:", "BUDDO_PASSWORD, or a line on standard input"),
        }
    }

    fn code(&mut self) -> Result<String, CliError> {
        let code = self.line("One-time code:", "--totp-code, or a line on standard input")?;
        Ok(code.trim().to_owned())
    }

    fn line(&mut self, question: &str, otherwise: &str) -> Result<String, CliError> {
        match self.ui.ask() {
            Some(ask) => ask.text(question),
            None => self.read(question, otherwise).map(|line| line.expose().to_owned()),
        }
    }

    fn secret(&mut self, question: &str, otherwise: &str) -> Result<Secret, CliError> {
        match self.ui.ask() {
            Some(ask) => ask.secret(question),
            None => self.read(question, otherwise),
        }
    }

    fn read(&mut self, question: &str, otherwise: &str) -> Result<Secret, CliError> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        read.map_err(|error| CliError::wrap(Kind::Failure, InputError(error)))?;
        let answer = line.strip_suffix('\n').unwrap_or(&line);
        let answer = Secret::new(answer.strip_suffix('\r').unwrap_or(answer));
        let line = Secret::new(line);
        if line.expose().is_empty() {
            let what = question.trim_end_matches(':').to_lowercase();
            return Err(CliError::new(Kind::Usage, format!("the {what} is missing"))
                .hint(format!("without a terminal, give it by {otherwise}")));
        }
        Ok(answer)
    }
}

/// Standard input cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read standard input")]
struct InputError(#[source] std::io::Error);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::{Answers, Screen, ui, ui_with};

    #[test]
    fn prompts_on_a_terminal_as_documented() {
        let answers = Answers::new(["you@example.com", "hunter2"]);
        let asked = answers.asked.clone();
        let (mut ui, _) = ui_with(Screen::Terminal, Some(answers));
        let mut input = Input::new(&mut ui, &b"not read"[..]);
        assert_eq!(input.line("Email:", "").unwrap(), "you@example.com");
        assert_eq!(input.secret("Password:", "").unwrap().expose(), "hunter2");
        assert_eq!(*asked.lock().unwrap(), ["Email:", "Password:"]);
    }

    #[test]
    fn reads_a_pipe_line_by_line() {
        let (mut ui, printed) = ui(Screen::Piped);
        let mut input = Input::new(&mut ui, &b"you@example.com\r\n pass word \n"[..]);
        assert_eq!(input.line("Email:", "").unwrap(), "you@example.com");
        assert_eq!(input.secret("Password:", "").unwrap().expose(), " pass word ");
        let error = input.line("One-time code:", "--totp-code").unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::Usage, "the one-time code is missing")
        );
        assert_eq!(printed.out() + &printed.err(), "");
    }
}
