//! Parts of URIs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes one path segment or query value, so that nothing in it can end its segment.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_uri_delimiters() {
        assert_eq!(escape("a/b?c=d&e #%"), "a%2Fb%3Fc%3Dd%26e%20%23%25");
        assert_eq!(escape("a b&c=\u{e9}"), "a%20b%26c%3D%C3%A9");
        assert_eq!(escape("my-app.example.com_~"), "my-app.example.com_~");
    }
}
