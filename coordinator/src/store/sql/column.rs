//! Conversions between columns and types.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;

use super::Row;
use super::value::FromValue;
use crate::domain::failure::Failure;
use crate::domain::identity::HashedToken;
use crate::store::contract::{Cause, StoreError};

/// A time as a column: milliseconds since 1970.
pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// An optional time as a column.
pub(super) fn opt_millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(millis)
}

/// A column; its name appears in errors.
pub(super) fn get<T: FromValue>(row: &Row<'_>, name: &'static str) -> Result<T, StoreError> {
    row.named(name).and_then(T::from_value).map_err(StoreError::corrupt(name))
}

/// A text column that holds a validated type.
pub(super) fn parsed<T>(row: &Row<'_>, name: &'static str) -> Result<T, StoreError>
where
    T: FromStr<Err: Into<Cause>>,
{
    let text: String = get(row, name)?;
    text.parse().map_err(StoreError::corrupt(name))
}

/// A nullable text column that holds a validated type.
pub(super) fn opt_parsed<T>(row: &Row<'_>, name: &'static str) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: Into<Cause>>,
{
    let text: Option<String> = get(row, name)?;
    text.map(|text| text.parse().map_err(StoreError::corrupt(name))).transpose()
}

pub(super) fn time(row: &Row<'_>, name: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(get(row, name)?).map_err(StoreError::corrupt(name))
}

/// A nullable time column.
pub(super) fn opt_time(row: &Row<'_>, name: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let millis: Option<i64> = get(row, name)?;
    millis
        .map(|millis| Timestamp::from_millisecond(millis).map_err(StoreError::corrupt(name)))
        .transpose()
}

/// A column that holds the hash of a token.
pub(super) fn hash(row: &Row<'_>, name: &'static str) -> Result<HashedToken, StoreError> {
    opt_hash(row, name)?.ok_or_else(|| StoreError::corrupt(name)("it is null"))
}

/// A nullable column that holds the hash of a token.
pub(super) fn opt_hash(
    row: &Row<'_>,
    name: &'static str,
) -> Result<Option<HashedToken>, StoreError> {
    let bytes: Option<Vec<u8>> = get(row, name)?;
    let wrong = || StoreError::corrupt(name)("it does not have 32 bytes");
    bytes.map(|bytes| HashedToken::from_stored(&bytes).ok_or_else(wrong)).transpose()
}

/// The columns of a failure: code, cause, fix.
pub(super) type FailureColumns = [&'static str; 3];

/// An optional failure, stored in one column per part.
pub(super) fn failure(
    row: &Row<'_>,
    [code, cause, fix]: FailureColumns,
) -> Result<Option<Failure>, StoreError> {
    let Some(code) = get(row, code)? else { return Ok(None) };
    Ok(Some(Failure { code, cause: get(row, cause)?, fix: get(row, fix)? }))
}

/// A column that holds a small enum as its serde word.
pub(super) fn word<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    name: &'static str,
) -> Result<T, StoreError> {
    let text: String = get(row, name)?;
    serde_json::from_value(text.into()).map_err(StoreError::corrupt(name))
}

/// A column that holds JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    name: &'static str,
) -> Result<T, StoreError> {
    let text: String = get(row, name)?;
    serde_json::from_str(&text).map_err(StoreError::corrupt(name))
}

/// The serde word of a small enum.
pub(super) fn to_word<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(_) => Err(StoreError::operation("write a word")("the value is not a plain enum")),
        Err(error) => Err(StoreError::operation("write a word")(error)),
    }
}

/// A value as JSON text.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::operation("write JSON"))
}

/// A value as its text.
pub(super) fn text(value: &impl Display) -> String {
    value.to_string()
}
