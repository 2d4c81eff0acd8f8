//! The only printer. Data goes to standard output, everything else to standard error; colour is
//! for terminals; external text is stripped of control characters before it is shown.
//!
//! ```text
//! command ──► Ui ─┬─► out     results: lines, fields, tables, JSON
//!                 ├─► err     errors, hints, notes, the progress spinner
//!                 └─► ask     questions, only on terminals
//! ```

mod ask;
mod progress;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod usage;

use std::io::{self, IsTerminal as _, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use buddo_shared::terminal::escape_json;
use serde::Serialize;

pub(crate) use ask::Ask;
pub(crate) use buddo_shared::terminal::clean;
pub(crate) use progress::Spinner;
pub(crate) use table::Table;

use crate::error::{CliError, Kind};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BUSY: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Where a command prints and asks.
pub(crate) struct Ui {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    terminals: Terminals,
    ask: Option<Box<dyn Ask>>,
    json: bool,
}

/// Which streams a person watches.
#[derive(Clone, Copy)]
struct Terminals {
    out: bool,
    err: bool,
    /// Whether something may move on standard error.
    spinners: bool,
}

impl Ui {
    /// The process's own streams. Colour follows the terminal, `NO_COLOR` and `CLICOLOR`.
    pub(crate) fn of_process() -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let can_ask = io::stdin().is_terminal() && err;
        Self {
            out: Box::new(AutoStream::auto(io::stdout())),
            err: Box::new(AutoStream::auto(io::stderr())),
            terminals: Terminals { out, err, spinners: err },
            ask: can_ask.then(|| Box::new(ask::Terminal) as Box<dyn Ask>),
            json: false,
        }
    }

    /// Results and errors as JSON from now on.
    pub(crate) fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person sees standard output.
    pub(crate) fn out_is_terminal(&self) -> bool {
        self.terminals.out
    }

    /// Whether a person sees standard error, where the spinner is.
    pub(crate) fn err_is_terminal(&self) -> bool {
        self.terminals.err
    }

    /// Who answers questions; nobody if standard input or error is not a terminal.
    pub(crate) fn ask(&mut self) -> Option<&mut (dyn Ask + 'static)> {
        self.ask.as_deref_mut()
    }

    /// One line of the result.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        let line = format!("{}\n", clean(text));
        self.print(&line)
    }

    /// Part of a line of the result, shown at once.
    pub(crate) fn part(&mut self, text: &str) -> Result<(), CliError> {
        let text = clean(text).into_owned();
        self.print(&text)
    }

    /// A line break after [`part`](Self::part)s.
    pub(crate) fn end_line(&mut self) -> Result<(), CliError> {
        self.print("\n")
    }

    /// `Name: value`, with the colour that fits a status or health word.
    pub(crate) fn field(&mut self, name: &str, value: &str) -> Result<(), CliError> {
        let style = style_of(value);
        let line = format!("{name}: {style}{}{style:#}\n", clean(value));
        self.print(&line)
    }

    /// A table of the result.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), CliError> {
        let text = table.render(self.terminals.out);
        self.print(&text)
    }

    /// The result as JSON, on its own line or lines.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::wrap(Kind::Failure, error))?;
        self.print(&format!("{}\n", escape_json(&text)))
    }

    /// Bytes of the result as they are: completion scripts and the like.
    pub(crate) fn raw(&mut self, text: &str) -> Result<(), CliError> {
        self.print(text)
    }

    /// What clap has to say: help and version are results, the rest is an error.
    pub(crate) fn usage(&mut self, error: &clap::Error) {
        if self.json && error.use_stderr() {
            return self.error(&usage::in_our_form(error));
        }
        let text = error.render().ansi().to_string();
        let stream = if error.use_stderr() { &mut self.err } else { &mut self.out };
        // If this fails, there is nowhere left to report it.
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }

    /// Information that is not a result.
    pub(crate) fn note(&mut self, text: &str) {
        let line = format!("{}\n", clean(text));
        self.tell(&line);
    }

    /// A problem that does not stop anything from working.
    pub(crate) fn warning(&mut self, text: &str) {
        let line = format!("{BUSY}warning:{BUSY:#} {}\n", clean(text));
        self.tell(&line);
    }

    /// What to do next. Left out with `--json`, where nobody reads it.
    pub(crate) fn hint(&mut self, text: &str) {
        if !self.json {
            let line = format!("{HINT}hint:{HINT:#} {}\n", clean(text));
            self.tell(&line);
        }
    }

    /// The error that ends the command.
    pub(crate) fn error(&mut self, error: &CliError) {
        use std::fmt::Write as _;

        let causes = error.causes();
        let mut text = String::new();
        if self.json {
            let value = serde_json::json!({ "error": {
                "kind": error.kind.as_str(),
                "code": error.code,
                "message": error.message,
                "details": error.details,
                "causes": causes,
                "hint": error.hint,
            }});
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{}", escape_json(&format!("{value:#}")));
        } else {
            let _ = writeln!(text, "{ERROR}error:{ERROR:#} {}", clean(&error.message));
            for detail in &error.details {
                let _ = writeln!(text, "  {}", clean(detail));
            }
            // The layers in between are for programs (`--json`): the root cause is what a person
            // can act on. It may span several lines, such as a TOML parse error.
            for line in causes.last().map(|cause| cause.lines()).into_iter().flatten() {
                let _ = writeln!(text, "  {}", clean(line));
            }
            if let Some(hint) = &error.hint {
                let _ = writeln!(text, "{HINT}hint:{HINT:#} {}", clean(hint));
            }
        }
        self.tell(&text);
    }

    /// A spinner on standard error; invisible if that is not a terminal.
    pub(crate) fn spinner(&self) -> Spinner {
        Spinner::new(self.terminals.spinners)
    }

    fn print(&mut self, text: &str) -> Result<(), CliError> {
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            // The reader of our output (`head`, `less`) has seen enough: not a failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CliError::wrap(Kind::Failure, PrintError(error))),
            Ok(()) => Ok(()),
        }
    }

    fn tell(&mut self, text: &str) {
        // A failure to report an error has nowhere else to go.
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }
}

/// Standard output accepts no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct PrintError(#[source] io::Error);

fn style_of(value: &str) -> Style {
    match value {
        "running" | "healthy" | "completed" => GOOD,
        "pending" | "deploying" => BUSY,
        "failed" | "unhealthy" => BAD,
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Screen, ui};
    use super::*;

    fn failure() -> CliError {
        CliError::new(Kind::Refused, "the input was refused")
            .details(vec!["--name: is reserved".to_owned()])
            .hint("choose another name")
    }

    #[test]
    fn errors_are_readable_with_and_without_colour() {
        let (mut piped, screen) = ui(Screen::Piped);
        piped.error(&failure());
        assert_eq!(
            screen.err(),
            "error: the input was refused\n  --name: is reserved\nhint: choose another name\n"
        );
        assert_eq!(screen.out(), "");

        let (mut terminal, screen) = ui(Screen::Terminal);
        terminal.error(&failure());
        insta::assert_snapshot!(screen.err().escape_debug().to_string(), @r"\u{1b}[1m\u{1b}[31merror:\u{1b}[0m the input was refused\n  --name: is reserved\n\u{1b}[1m\u{1b}[36mhint:\u{1b}[0m choose another name\n");
    }

    #[test]
    fn the_root_cause_is_shown_line_by_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the settings")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("layer")]
        struct Middle(#[source] io::Error);

        let error = Outer(Middle(io::Error::other("line 3\n  ^ here")));
        let (mut ui, screen) = ui(Screen::Piped);
        ui.error(&CliError::wrap(Kind::Failure, error));
        assert_eq!(screen.err(), "error: cannot read the settings\n  line 3\n    ^ here\n");
    }

    #[test]
    fn json_errors_go_to_standard_error() {
        let (mut ui, screen) = ui(Screen::Piped);
        ui.set_json(true);
        ui.error(&failure());
        ui.hint("not for programs");
        let value: serde_json::Value = serde_json::from_str(&screen.err()).unwrap();
        assert_eq!(value["error"]["kind"], "refused");
        assert_eq!(value["error"]["details"][0], "--name: is reserved");
        assert_eq!(screen.out(), "");
    }

    #[test]
    fn a_status_is_coloured_only_on_a_terminal() {
        let (mut piped, screen) = ui(Screen::Piped);
        piped.field("Status", "running").unwrap();
        assert_eq!(screen.out(), "Status: running\n");
        let (mut terminal, screen) = ui(Screen::Terminal);
        terminal.field("Status", "running").unwrap();
        assert_eq!(screen.out(), "Status: \u{1b}[32mrunning\u{1b}[0m\n");
    }

    #[test]
    fn output_has_no_foreign_control_characters() {
        let (mut ui, screen) = ui(Screen::Terminal);
        ui.field("Error", "\u{1b}]0;owned\u{7}\nStatus: running").unwrap();
        ui.line("a\u{9b}2Jb").unwrap();
        ui.error(&CliError::new(Kind::Failure, "\u{1b}[2J"));
        assert!(!screen.out().contains("\u{1b}]0"));
        assert_eq!(screen.out().lines().count(), 2);
        assert!(!screen.err().contains("[2J") || screen.err().contains("\u{fffd}[2J"));
    }

    #[test]
    fn json_output_on_a_terminal_has_no_control_characters() {
        let (mut ui, screen) = ui(Screen::Terminal);
        ui.set_json(true);
        ui.json(&"a\u{9b}2Jb").unwrap();
        ui.error(&CliError::new(Kind::Failure, "\u{9b}2J"));
        assert_eq!(screen.out(), "\"a\\u009b2Jb\"\n");
        assert!(!screen.err().contains('\u{9b}'), "{}", screen.err().escape_debug());
    }
}
