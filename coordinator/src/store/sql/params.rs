//! Parameters of a statement, as its caller writes them.

use std::borrow::Cow;

use super::value::{ToValue, Value};

/// The parameters `?1`, `?2` … in order, of any types. Like the next one, for the files beside this
/// one.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as &dyn super::value::ToValue),*]
            as &[&dyn super::value::ToValue]
    };
}
pub(super) use params;

/// Parameters by name, for statements with many: `":name": value`.
macro_rules! named_params {
    ($($name:literal: $value:expr),* $(,)?) => {
        &[$(($name, &$value as &dyn super::value::ToValue)),*]
            as &[(&str, &dyn super::value::ToValue)]
    };
}
pub(super) use named_params;

/// What can be passed as the parameters of a statement.
pub(super) trait Params {
    fn values(&self) -> Vec<Value<'_>>;

    /// The statement with placeholders `?1`, `?2` …
    fn numbered<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        Cow::Borrowed(sql)
    }
}

impl Params for &[&dyn ToValue] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(|value| value.to_value()).collect()
    }
}

impl Params for &[(&str, &dyn ToValue)] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(|(_, value)| value.to_value()).collect()
    }

    fn numbered<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        let mut numbered = String::with_capacity(sql.len());
        let mut rest = sql;
        while let Some(colon) = rest.find(':') {
            let after = &rest[colon + 1..];
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, after) = after.split_at(end.unwrap_or(after.len()));
            let index = self.iter().position(|(known, _)| known.strip_prefix(':') == Some(name));
            numbered.push_str(&rest[..colon]);
            match index {
                Some(index) => {
                    numbered.push('?');
                    numbered.push_str(&(index + 1).to_string());
                }
                // The database names what it cannot find.
                None => numbered.push_str(&rest[colon..=colon + name.len()]),
            }
            rest = after;
        }
        numbered.push_str(rest);
        Cow::Owned(numbered)
    }
}

/// No parameters. (Not for any `[T; 0]`: then the type of `[]` would be unknown.)
impl Params for [&dyn ToValue; 0] {
    fn values(&self) -> Vec<Value<'_>> {
        Vec::new()
    }
}

/// Up to four of one type.
macro_rules! arrays {
    ($($length:literal),*) => {$(
        impl<T: ToValue> Params for [T; $length] {
            fn values(&self) -> Vec<Value<'_>> {
                self.iter().map(T::to_value).collect()
            }
        }
    )*};
}
arrays!(1, 2, 3, 4);

/// `?4, ?5, ?6`: placeholders for `values` as a list, from number `first` on, with the values to
/// pass. The list is filled up with a repeated value to a power of two, so that lists of all
/// lengths need only a few prepared statements. An empty one holds the empty text, since SQL has no
/// empty list, and nothing is `NOT IN` a list with null.
pub(super) fn list(first: usize, mut values: Vec<String>) -> (String, Vec<String>) {
    let filler = values.last().cloned().unwrap_or_default();
    values.resize(values.len().next_power_of_two(), filler);
    let marks: Vec<String> = (first..).take(values.len()).map(|n| format!("?{n}")).collect();
    (marks.join(", "), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers() {
        let params: &[(&str, &dyn ToValue)] = &[(":a", &1_i64), (":ab", &2_i64), (":c_1", &3_i64)];
        let sql = "SELECT ':', :ab, :a, :c_1,:a WHERE x = :other AND y = :a";
        assert_eq!(params.numbered(sql), "SELECT ':', ?2, ?1, ?3,?1 WHERE x = :other AND y = ?1");
        assert_eq!(params.values(), [1, 2, 3].map(Value::Integer));
    }

    #[test]
    fn lists_have_few_lengths() {
        let lengths = |n: usize| list(1, vec!["x".to_owned(); n]).1.len();
        assert_eq!([0, 1, 2, 3, 5, 8, 9].map(lengths), [1, 1, 2, 4, 8, 8, 16]);
        let (marks, values) = list(4, ["a", "b", "c"].map(str::to_owned).to_vec());
        assert_eq!(marks, "?4, ?5, ?6, ?7");
        assert_eq!(values, ["a", "b", "c", "c"]);
        assert_eq!(list(2, Vec::new()), ("?2".to_owned(), vec![String::new()]));
    }
}
