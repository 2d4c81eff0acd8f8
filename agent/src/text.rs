//! Small things done to text in more than one place.

use std::error::Error;
use std::fmt::Write as _;

/// An error with its causes in one line: `what: why: why`.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Escapes one path segment or query value (RFC 3986, 2.3: all but the unreserved characters).
pub(crate) fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_can_end_its_segment() {
        assert_eq!(escape("a/b?c=d&e #%"), "a%2Fb%3Fc%3Dd%26e%20%23%25");
        assert_eq!(escape("a b&c=\u{e9}"), "a%20b%26c%3D%C3%A9");
        assert_eq!(escape("my-app.example.com_~"), "my-app.example.com_~");
    }
}
