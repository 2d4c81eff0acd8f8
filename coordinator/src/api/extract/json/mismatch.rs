//! Why a JSON value does not fit a type: as a type, not as a sentence.
//!
//! Serde tells each reason to the error type of its deserializer, and `serde_json`'s keeps only a
//! sentence of it. So a value that was refused is read once more, by a deserializer whose error is
//! [`Mismatch`].

use std::fmt::Display;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;
use serde_path_to_error::Path;

/// What is wrong with one value. None of it repeats the value, which may be a misplaced password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("is not a known field; {}", known(names))]
    UnknownField { field: String, names: &'static [&'static str] },
    #[error("is missing; it is required")]
    MissingField(&'static str),
    #[error("has a value of the wrong type; send {0}")]
    Type(String),
    #[error("has a value that is not allowed here; send {0}")]
    Value(String),
    #[error("has a member that is given more than once; send each once")]
    Repeated,
    /// A type refuses the value for a reason of its own, whose text may quote it.
    #[error("has a value that is not allowed here")]
    Other,
}

/// Finds out why `body`, which is JSON, is not a `T`, and where. `None`: all there is against it is
/// that a member is given more than once, which the tree that this makes does not show.
///
/// The tree of a body full of tiny values is many times its size. It is gone before this thread
/// reads the next request, so there are never more of them than threads.
pub(super) fn find<T: DeserializeOwned>(body: &[u8]) -> Option<(Path, Mismatch)> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let error = serde_path_to_error::deserialize::<_, T>(Typed(value)).err()?;
    Some((error.path().clone(), error.into_inner()))
}

fn known(names: &[&str]) -> String {
    if names.is_empty() {
        return "remove it".to_owned();
    }
    format!("remove it or use {}", one_of(names))
}

fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [name] => name.clone(),
        [one, other] => format!("{one} or {other}"),
        _ => format!("one of {}", quoted.join(", ")),
    }
}

impl Error for Mismatch {
    fn custom<T: Display>(_: T) -> Self {
        Self::Other
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value(expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::Value(expected.to_string())
    }

    fn unknown_variant(_: &str, names: &'static [&'static str]) -> Self {
        Self::Value(one_of(names))
    }

    fn unknown_field(field: &str, names: &'static [&'static str]) -> Self {
        Self::UnknownField { field: field.to_owned(), names }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingField(field)
    }
}

/// A JSON value whose errors are [`Mismatch`]es.
struct Typed(Value);

impl IntoDeserializer<'_, Mismatch> for Typed {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Typed {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (.., Some(value)) => visitor.visit_f64(value),
                _ => Err(Mismatch::Other),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Typed)))
            }
            Value::Object(members) => visitor.visit_map(typed(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            Value::Object(members) => {
                visitor.visit_enum(MapAccessDeserializer::new(typed(members)))
            }
            _ => Err(Mismatch::Type("a string".to_owned())),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

type Member = (String, Typed);
type Members = std::iter::Map<serde_json::map::IntoIter, fn((String, Value)) -> Member>;

fn typed<'de>(members: serde_json::Map<String, Value>) -> MapDeserializer<'de, Members, Mismatch> {
    MapDeserializer::new(members.into_iter().map(|(name, value)| (name, Typed(value))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Form {
        name: String,
        #[serde(default)]
        count: Option<u8>,
        #[serde(default)]
        kind: Option<Size>,
        #[serde(default)]
        more: BTreeMap<String, Vec<bool>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Size {
        Small,
        Large,
    }

    #[rstest]
    #[case::missing("{}", ".", Mismatch::MissingField("name"))]
    #[case::kind(r#"{"name": 7}"#, "name", Mismatch::Type("a string".to_owned()))]
    #[case::range(r#"{"name": "", "count": 256}"#, "count", Mismatch::Value("u8".to_owned()))]
    #[case::float(r#"{"name": "", "count": 1.5}"#, "count", Mismatch::Type("u8".to_owned()))]
    #[case::variant(
        r#"{"name": "", "kind": "huge"}"#,
        "kind",
        Mismatch::Value("`small` or `large`".to_owned())
    )]
    #[case::nested(
        r#"{"name": "", "more": {"a": [true, null]}}"#,
        "more.a[1]",
        Mismatch::Type("a boolean".to_owned())
    )]
    fn each_reason_is_typed(#[case] body: &str, #[case] at: &str, #[case] expected: Mismatch) {
        let (path, found) = find::<Form>(body.as_bytes()).unwrap();
        assert_eq!((path.to_string().as_str(), found), (at, expected));
    }

    #[test]
    fn an_unknown_field_comes_with_those_that_are_known() {
        let (_, found) = find::<Form>(br#"{"name": "", "size": 1}"#).unwrap();
        let text = found.to_string();
        let known = "remove it or use one of `name`, `count`, `kind`, `more`";
        assert_eq!(text, format!("is not a known field; {known}"));
    }

    #[test]
    fn what_fits_is_no_mismatch() {
        let body = br#"{"name": "a", "count": 255, "kind": "small", "more": {"b": [false]}}"#;
        assert!(find::<Form>(body).is_none());
        assert!(find::<Form>(br#"{"name": "a", "count": null}"#).is_none());
    }
}
