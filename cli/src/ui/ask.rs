//! Questions to the person at the terminal. The answers go nowhere but to the caller.

use buddo_shared::model::secret::Secret;
use inquire::ui::{RenderConfig, Styled};
use inquire::{Confirm, InquireError, Password, PasswordDisplayMode, Select, Text};

use crate::error::{CliError, Kind};

pub(crate) trait Ask: Send {
    /// A line of text.
    fn text(&mut self, question: &str) -> Result<String, CliError>;
    /// A line that is not shown.
    fn secret(&mut self, question: &str) -> Result<Secret, CliError>;
    /// The index of one of `options`; the cursor starts at `first`.
    fn choose(
        &mut self,
        question: &str,
        options: &[String],
        first: usize,
    ) -> Result<usize, CliError>;
    /// Yes or no; just Enter means no.
    fn confirm(&mut self, question: &str) -> Result<bool, CliError>;
}

/// The user at this terminal. Questions block the only thread: nothing else runs meanwhile.
pub(crate) struct Terminal;

impl Ask for Terminal {
    fn text(&mut self, question: &str) -> Result<String, CliError> {
        Text::new(question).with_render_config(look()).prompt().map_err(unanswered)
    }

    fn secret(&mut self, question: &str) -> Result<Secret, CliError> {
        let prompt = Password::new(question)
            .with_display_mode(PasswordDisplayMode::Masked)
            .without_confirmation()
            .with_render_config(look());
        prompt.prompt().map(Secret::new).map_err(unanswered)
    }

    fn choose(
        &mut self,
        question: &str,
        options: &[String],
        first: usize,
    ) -> Result<usize, CliError> {
        let prompt = Select::new(question, options.to_vec())
            .with_starting_cursor(first)
            .with_render_config(look());
        prompt.raw_prompt().map(|choice| choice.index).map_err(unanswered)
    }

    fn confirm(&mut self, question: &str) -> Result<bool, CliError> {
        let prompt = Confirm::new(question).with_default(false).with_render_config(look());
        prompt.prompt().map_err(unanswered)
    }
}

/// Plain questions with masked secrets, without colours of our own.
fn look() -> RenderConfig<'static> {
    let mut look = RenderConfig::empty();
    look.prompt_prefix = Styled::new("");
    look.answered_prompt_prefix = Styled::new("");
    look.password_mask = '•';
    look
}

fn unanswered(error: InquireError) -> CliError {
    match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => {
            CliError::new(Kind::Interrupted, "cancelled; nothing was changed")
        }
        other => CliError::wrap(Kind::Failure, AskError(other))
            .hint("give the answer as an option instead; see --help"),
    }
}

/// The terminal cannot be used for questions.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask on this terminal")]
struct AskError(#[source] InquireError);
