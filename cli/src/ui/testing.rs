//! A `Ui` whose streams a test can read, on a terminal or not.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use anstream::{AutoStream, ColorChoice};
use buddo_shared::model::secret::Secret;

use super::{Ask, Terminals, Ui};
use crate::error::CliError;

/// What the streams are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    Terminal,
    Piped,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Printed {
    out: Buffer,
    err: Buffer,
}

impl Printed {
    /// Standard output so far.
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.out.0.lock().unwrap().clone()).unwrap()
    }

    /// Standard error so far.
    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.err.0.lock().unwrap().clone()).unwrap()
    }
}

/// Answers from a list, and records the questions.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    answers: VecDeque<String>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    pub(crate) fn new<const N: usize>(answers: [&str; N]) -> Self {
        Self { answers: answers.map(str::to_owned).into(), asked: Arc::default() }
    }

    fn next(&mut self, question: &str) -> String {
        self.asked.lock().unwrap().push(question.to_owned());
        self.answers.pop_front().expect("one question more than answers")
    }
}

impl Ask for Answers {
    fn text(&mut self, question: &str) -> Result<String, CliError> {
        Ok(self.next(question))
    }

    fn secret(&mut self, question: &str) -> Result<Secret, CliError> {
        Ok(Secret::new(self.next(question)))
    }

    fn choose(
        &mut self,
        question: &str,
        options: &[String],
        first: usize,
    ) -> Result<usize, CliError> {
        let answer = self.next(question);
        Ok(options.iter().position(|option| option.contains(&answer)).unwrap_or(first))
    }

    fn confirm(&mut self, question: &str) -> Result<bool, CliError> {
        Ok(self.next(question) == "y")
    }
}

/// A `Ui` and what it prints.
pub(crate) fn ui(screen: Screen) -> (Ui, Printed) {
    ui_with(screen, None)
}

/// A `Ui` whose questions are answered from a list.
pub(crate) fn ui_with(screen: Screen, answers: Option<Answers>) -> (Ui, Printed) {
    let printed = Printed { out: Buffer::default(), err: Buffer::default() };
    let terminal = screen == Screen::Terminal;
    let choice = if terminal { ColorChoice::AlwaysAnsi } else { ColorChoice::Never };
    let stream = |buffer: &Buffer| -> Box<dyn Write + Send> {
        let raw: Box<dyn Write + Send> = Box::new(buffer.clone());
        Box::new(AutoStream::new(raw, choice))
    };
    let ui = Ui {
        out: stream(&printed.out),
        err: stream(&printed.err),
        terminals: Terminals { out: terminal, err: terminal, spinners: false },
        ask: answers.map(|answers| Box::new(answers) as Box<dyn Ask>),
        json: false,
    };
    (ui, printed)
}
