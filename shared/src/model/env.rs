//! Environment variables of an app. Values are secrets everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::secret::Secret;
use crate::model::text_newtype;

/// The name of an environment variable: `[A-Za-z_][A-Za-z0-9_]*`, 128 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$")]
pub struct EnvKey(String);

/// Why a set of environment variables is refused. Values are never part of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The name is not a shell identifier.
    #[error(
        "is not a valid variable name; use letters, digits and _, not starting with a digit, 128 \
         at most"
    )]
    Key,
    /// Too many variables.
    #[error("has {0} variables; at most 50 are allowed")]
    TooMany(usize),
    /// A value is too long.
    #[error("has a value of {0} bytes; at most 32768 are allowed")]
    ValueLength(usize),
    /// All names and values together are too long, as the JSON they are stored as.
    #[error(
        "has {0} bytes as JSON; at most 131072 are allowed, and quotes, backslashes and control \
         characters count as they are escaped"
    )]
    TotalLength(usize),
    /// A NUL byte cannot be in an environment (POSIX `environ`).
    #[error("has a NUL byte in its value; remove it")]
    Nul,
}

impl EnvKey {
    /// Parses a variable's name.
    pub fn parse(text: &str) -> Result<Self, EnvError> {
        let first_is_valid = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if first_is_valid && text.len() <= 128 && text.bytes().all(word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EnvError::Key)
        }
    }
}

text_newtype!(EnvKey, EnvError);

/// At most [`MAX_VARS`](Self::MAX_VARS) variables of bounded size, ordered by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvVars(BTreeMap<EnvKey, Secret>);

impl EnvVars {
    /// The most variables one app may have.
    pub const MAX_VARS: usize = 50;
    /// The longest value, in bytes.
    pub const MAX_VALUE: usize = 32 * 1024;
    /// The maximum bytes of all names and values, as JSON: a control character takes six of them,
    /// and a host's document has to hold the escaped form.
    pub const MAX_TOTAL: usize = 128 * 1024;

    /// Checks names and values; each error comes with the name it concerns (`None`: the whole).
    pub fn parse<I>(pairs: I) -> Result<Self, Vec<(Option<String>, EnvError)>>
    where
        I: IntoIterator<Item = (String, Secret)>,
    {
        Self::parse_within(pairs, Self::MAX_TOTAL)
    }

    fn parse_within<I>(pairs: I, most: usize) -> Result<Self, Vec<(Option<String>, EnvError)>>
    where
        I: IntoIterator<Item = (String, Secret)>,
    {
        let mut errors = Vec::new();
        let mut vars = BTreeMap::new();
        // The braces; each entry has four quotes, a colon and a comma, except for the last comma.
        let mut total = 2_usize;
        for (name, value) in pairs {
            let comma = usize::from(total > 2);
            total += escaped_len(&name) + escaped_len(value.expose()) + 5 + comma;
            if value.expose().len() > Self::MAX_VALUE {
                errors.push((Some(name.clone()), EnvError::ValueLength(value.expose().len())));
            }
            if value.expose().contains('\0') {
                errors.push((Some(name.clone()), EnvError::Nul));
            }
            match EnvKey::parse(&name) {
                Ok(key) => {
                    vars.insert(key, value);
                }
                Err(error) => errors.push((Some(name), error)),
            }
        }
        if vars.len() > Self::MAX_VARS {
            errors.push((None, EnvError::TooMany(vars.len())));
        }
        if total > most {
            errors.push((None, EnvError::TotalLength(total)));
        }
        if errors.is_empty() { Ok(Self(vars)) } else { Err(errors) }
    }

    /// The variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&EnvKey, &Secret)> {
        self.0.iter()
    }

    /// How many variables there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no variables.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON object that is encrypted at rest and sealed to a host.
    pub fn to_plain_json(&self) -> Secret {
        let plain: BTreeMap<&str, &str> =
            self.0.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        // A map of strings always serialises.
        Secret::new(serde_json::to_string(&plain).unwrap_or_default())
    }

    /// Parses what [`to_plain_json`](Self::to_plain_json) wrote. The error does not repeat the
    /// text.
    pub fn from_plain_json(plain: &str) -> Result<Self, EnvJsonError> {
        let pairs: BTreeMap<String, Secret> =
            serde_json::from_str(plain).map_err(|_| EnvJsonError)?;
        // Of any length: what was accepted once must stay readable for as long as it is kept.
        Self::parse_within(pairs, usize::MAX).map_err(|_| EnvJsonError)
    }
}

/// Bytes of a text between the quotes of a JSON string (RFC 8259, 7), as `serde_json` writes it.
fn escaped_len(text: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// The opened environment was not written by this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the environment is not a JSON object of valid variables")]
pub struct EnvJsonError;

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(count: usize) -> Vec<(String, Secret)> {
        (0..count).map(|i| (format!("KEY_{i}"), Secret::new("v"))).collect()
    }

    #[test]
    fn accepts_at_most_50_variables() {
        assert_eq!(EnvVars::parse(vars(50)).unwrap().len(), 50);
        assert_eq!(EnvVars::parse(vars(51)), Err(vec![(None, EnvError::TooMany(51))]));
    }

    #[test]
    fn each_error_names_its_variable() {
        let errors = EnvVars::parse([
            ("1X".to_owned(), Secret::new("v")),
            ("OK".to_owned(), Secret::new("a\0b")),
        ])
        .unwrap_err();
        assert_eq!(
            errors,
            [(Some("1X".to_owned()), EnvError::Key), (Some("OK".to_owned()), EnvError::Nul)]
        );
    }

    #[test]
    fn plain_json_round_trips() {
        let env = EnvVars::parse([("A".to_owned(), Secret::new("b \"c\" ü"))]).unwrap();
        assert_eq!(EnvVars::from_plain_json(env.to_plain_json().expose()).unwrap(), env);
    }

    #[test]
    fn the_size_limit_counts_the_escaped_length() {
        let control = |bytes: usize| {
            let pairs = (0..4).map(|n| (format!("K{n}"), Secret::new("\u{1}".repeat(bytes / 4))));
            EnvVars::parse(pairs)
        };
        assert!(control(20_000).is_ok());
        // Six times as much as it looks.
        let refused = control(24_000).unwrap_err();
        assert!(matches!(refused[..], [(None, EnvError::TotalLength(144_000..))]), "{refused:?}");
        // What an earlier rule accepted is still read.
        let before: BTreeMap<String, String> =
            (0..4).map(|n| (format!("K{n}"), "\u{1}".repeat(6000))).collect();
        let plain = serde_json::to_string(&before).unwrap();
        assert_eq!(EnvVars::from_plain_json(&plain).unwrap().len(), 4);
    }

    proptest::proptest! {
        /// The count is that of the text that is stored and sealed.
        #[test]
        fn the_total_is_the_length_of_the_json(
            values in proptest::collection::vec("[^\u{0}]{0,20}", 0..10),
        ) {
            let pairs: Vec<_> = (0..)
                .zip(values)
                .map(|(n, value): (usize, String)| (format!("K{n}"), Secret::new(value)))
                .collect();
            let bytes = EnvVars::parse(pairs.clone()).unwrap().to_plain_json().expose().len();
            proptest::prop_assert!(EnvVars::parse_within(pairs.clone(), bytes).is_ok());
            let refused = EnvVars::parse_within(pairs, bytes - 1).unwrap_err();
            proptest::prop_assert_eq!(&refused, &[(None, EnvError::TotalLength(bytes))]);
        }
    }
}
