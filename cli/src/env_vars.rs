//! Environment variables of the app, from `--env` and `--env-file`. Values are secrets from the
//! moment they are read, and no message repeats one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use buddo_shared::model::secret::Secret;

/// An `--env` argument: `KEY=VALUE`, or `KEY` whose value is taken from buddo's own environment.
#[derive(Debug, Clone)]
pub(crate) struct EnvArg {
    key: String,
    value: Option<Secret>,
}

impl FromStr for EnvArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(Secret::new(value)) },
            None => Self { key: text.to_owned(), value: None },
        })
    }
}

/// Why the variables cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    /// The file cannot be read.
    #[error("cannot read the environment file {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is too long to be an environment file.
    #[error("the environment file {} has more than {MAX_FILE} bytes", .0.display())]
    TooLong(PathBuf),
    /// A line is malformed.
    #[error("line {line} of the environment file {} {problem}", .path.display())]
    Line {
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineError,
    },
    /// `--env KEY`, and the environment has no such variable.
    #[error("--env {0} has no value, and the environment has no variable of that name")]
    Unset(String),
}

/// What is wrong with a line of an environment file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// No `=`.
    #[error("has no `=`; write KEY=VALUE")]
    NoEquals,
    /// The quote never ends.
    #[error("begins a quoted value that does not end on the line")]
    OpenQuote,
    /// Text after the closing quote.
    #[error("has text after the closing quote")]
    AfterQuote,
    /// A backslash before a character that needs none.
    #[error(
        "has an unknown escape; inside double quotes \\n, \\t, \\r, \\\", \\\\ and \\$ are known"
    )]
    Escape,
    /// The name was set before.
    #[error("sets a variable again that line {0} sets")]
    Again(usize),
}

/// More than the API accepts, so that nothing valid is refused here.
const MAX_FILE: u64 = 1024 * 1024;

/// Variables of the file, overridden by the arguments; `own` reads buddo's environment.
pub(crate) fn gather(
    file: Option<&Path>,
    arguments: Vec<EnvArg>,
    own: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Secret>, EnvError> {
    let mut vars = file.map(read_file).transpose()?.unwrap_or_default();
    for EnvArg { key, value } in arguments {
        let value = match value {
            Some(value) => value,
            None => Secret::new(own(&key).ok_or_else(|| EnvError::Unset(key.clone()))?),
        };
        vars.insert(key, value);
    }
    Ok(vars)
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Secret>, EnvError> {
    let read = |source| EnvError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(read)?;
    let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(read)?;
    if length as u64 > MAX_FILE {
        return Err(EnvError::TooLong(path.to_owned()));
    }
    parse(&Secret::new(text)).map_err(|(line, problem)| EnvError::Line {
        path: path.to_owned(),
        line,
        problem,
    })
}

/// Parses the text of an environment file; an error comes with its line number.
fn parse(text: &Secret) -> Result<BTreeMap<String, Secret>, (usize, LineError)> {
    let mut vars: BTreeMap<String, (usize, Secret)> = BTreeMap::new();
    for (index, line) in text.expose().lines().enumerate() {
        let number = index + 1;
        let Some((key, value)) = parse_line(line).map_err(|problem| (number, problem))? else {
            continue;
        };
        if let Some((before, _)) = vars.insert(key, (number, value)) {
            return Err((number, LineError::Again(before)));
        }
    }
    Ok(vars.into_iter().map(|(key, (_, value))| (key, value)).collect())
}

fn parse_line(line: &str) -> Result<Option<(String, Secret)>, LineError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line,
    };
    let (key, value) = line.split_once('=').ok_or(LineError::NoEquals)?;
    let value = value.trim_start();
    let value = if let Some(rest) = value.strip_prefix('\'') {
        single_quoted(rest)?
    } else if let Some(rest) = value.strip_prefix('"') {
        double_quoted(rest)?
    } else {
        Secret::new(value)
    };
    Ok(Some((key.trim_end().to_owned(), value)))
}

fn single_quoted(rest: &str) -> Result<Secret, LineError> {
    match rest.split_once('\'') {
        None => Err(LineError::OpenQuote),
        Some((value, "")) => Ok(Secret::new(value)),
        Some(_) => Err(LineError::AfterQuote),
    }
}

fn double_quoted(rest: &str) -> Result<Secret, LineError> {
    let mut value = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next().ok_or(LineError::OpenQuote)? {
            '"' if chars.as_str().is_empty() => return Ok(Secret::new(value)),
            '"' => return Err(LineError::AfterQuote),
            '\\' => value.push(match chars.next().ok_or(LineError::OpenQuote)? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                literal @ ('"' | '\\' | '$') => literal,
                _ => return Err(LineError::Escape),
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Result<Vec<(String, String)>, (usize, LineError)> {
        let vars = parse(&Secret::new(text))?;
        Ok(vars.into_iter().map(|(key, value)| (key, value.expose().to_owned())).collect())
    }

    #[test]
    fn parses_every_form_of_a_line() {
        let text = "# comment\n\nA=1\nexport B = two words # kept\r\nC='it''s\n";
        assert_eq!(plain(text), Err((5, LineError::AfterQuote)));
        let text = "# c\n\nA=1\nexport B = two words # kept\r\nC='$x \\n'\nD=\"a\\n\\\"b\\\"\"\nE=\nexported=1";
        let pairs = plain(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("A", "1"),
                ("B", "two words # kept"),
                ("C", "$x \\n"),
                ("D", "a\n\"b\""),
                ("E", ""),
                ("exported", "1"),
            ]
        );
    }

    #[test]
    fn errors_name_the_malformed_line() {
        assert_eq!(plain("A=1\nB"), Err((2, LineError::NoEquals)));
        assert_eq!(plain("A=1\nA=2"), Err((2, LineError::Again(1))));
        assert_eq!(plain("A=\"x"), Err((1, LineError::OpenQuote)));
        assert_eq!(plain("A=\"\\q\""), Err((1, LineError::Escape)));
    }

    #[test]
    fn arguments_override_the_file_and_can_read_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        std::fs::write(&file, "A=file\nB=file").unwrap();
        let own = |key: &str| (key == "C").then(|| "own".to_owned());
        let arguments = vec!["B=arg=1".parse().unwrap(), "C".parse().unwrap()];
        let vars = gather(Some(&file), arguments, own).unwrap();
        let values: Vec<_> = vars.values().map(Secret::expose).collect();
        assert_eq!(values, ["file", "arg=1", "own"]);
        let error = gather(None, vec!["D".parse().unwrap()], own).unwrap_err();
        assert!(error.to_string().starts_with("--env D has no value"), "{error}");
    }

    proptest! {
        /// Anything written in double quotes with the documented escapes is read back.
        #[test]
        fn quoted_values_round_trip(values in proptest::collection::vec("[^\r]{0,40}", 0..8)) {
            let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"")
                .replace('\n', "\\n");
            let lines: Vec<_> = values.iter().enumerate()
                .map(|(i, value)| format!("K{i}=\"{}\"\n", escape(value))).collect();
            let read = plain(&lines.concat()).unwrap();
            prop_assert_eq!(read.len(), values.len());
            for (i, value) in values.iter().enumerate() {
                let pair = (format!("K{i}"), value.clone());
                prop_assert!(read.contains(&pair));
            }
        }

        /// No text makes the parser panic, and an error never shows a value.
        #[test]
        fn the_parser_never_panics(text in "(?s).{0,200}") {
            let _ = plain(&text);
        }
    }
}
