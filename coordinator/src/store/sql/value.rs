//! Values of parameters and columns.

use crate::store::contract::Cause;

/// A value as a database has it. Text is UTF-8; text that is not is handed over as bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::store) enum Value<'v> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'v str),
    Blob(&'v [u8]),
}

impl Value<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Text(_) => "a text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// What can be a parameter.
pub(in crate::store) trait ToValue {
    fn to_value(&self) -> Value<'_>;
}

/// What a column can be read as.
pub(in crate::store) trait FromValue: Sized {
    fn from_value(value: Value<'_>) -> Result<Self, Cause>;
}

fn mismatch<T>(wanted: &'static str, found: Value<'_>) -> Result<T, Cause> {
    Err(format!("it is {}, not {wanted}", found.kind()).into())
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value<'_> {
                Value::Integer(i64::from(*self))
            }
        }

        impl FromValue for $type {
            fn from_value(value: Value<'_>) -> Result<Self, Cause> {
                match value {
                    Value::Integer(number) => Ok(Self::try_from(number)?),
                    other => mismatch("an integer", other),
                }
            }
        }
    )*};
}
integers!(u8, u16, u32, i64);

impl ToValue for bool {
    fn to_value(&self) -> Value<'_> {
        Value::Integer(i64::from(*self))
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Result<Self, Cause> {
        match value {
            Value::Integer(number) => Ok(number != 0),
            other => mismatch("an integer", other),
        }
    }
}

impl ToValue for f64 {
    fn to_value(&self) -> Value<'_> {
        Value::Real(*self)
    }
}

impl FromValue for f64 {
    fn from_value(value: Value<'_>) -> Result<Self, Cause> {
        match value {
            Value::Real(number) => Ok(number),
            other => mismatch("a real number", other),
        }
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Result<Self, Cause> {
        match value {
            Value::Text(text) => Ok(text.to_owned()),
            other => mismatch("a text", other),
        }
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: Value<'_>) -> Result<Self, Cause> {
        match value {
            Value::Blob(bytes) => Ok(bytes.try_into()?),
            other => mismatch("bytes", other),
        }
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value<'_>) -> Result<Self, Cause> {
        match value {
            Value::Blob(bytes) => Ok(bytes.to_vec()),
            other => mismatch("bytes", other),
        }
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, T::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value<'_>) -> Result<Self, Cause> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromValue>(value: Value<'_>) -> Option<T> {
        T::from_value(value).ok()
    }

    #[test]
    fn a_value_comes_back_as_it_went_in() {
        assert_eq!(read::<i64>((-5_i64).to_value()), Some(-5));
        assert_eq!(read::<bool>(true.to_value()), Some(true));
        assert_eq!(read::<f64>(0.5.to_value()), Some(0.5));
        assert_eq!(read::<String>("text".to_value()), Some("text".to_owned()));
        assert_eq!(read::<[u8; 3]>([1_u8, 2, 3].to_value()), Some([1, 2, 3]));
        assert_eq!(read::<Option<u32>>(None::<u32>.to_value()), Some(None));
        assert_eq!(read::<Option<u32>>(Some(7_u32).to_value()), Some(Some(7)));
    }

    #[test]
    fn nothing_is_read_as_what_it_is_not() {
        assert_eq!(read::<u32>(Value::Integer(-1)), None, "out of range");
        assert_eq!(read::<i64>(Value::Text("1")), None);
        assert_eq!(read::<String>(Value::Null), None);
        assert_eq!(read::<String>(Value::Blob(b"text")), None);
        assert_eq!(read::<[u8; 3]>(Value::Blob(&[1, 2])), None, "another length");
        assert_eq!(read::<Option<i64>>(Value::Real(1.0)), None);
    }
}
