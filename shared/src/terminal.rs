//! Makes untrusted text safe for terminals: a registry's message, a container's last line or a name
//! must not recolour, overwrite or retitle what a person sees, nor pass for another line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line without characters that control a terminal; each becomes U+FFFD.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same for several lines, which are kept.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() && c != '\n';
    if text.contains(drives) {
        Cow::Owned(text.replace(drives, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Equivalent JSON that does not control a terminal. JSON writers escape what is below U+0020 but
/// leave DEL and the C1 controls, of which U+009B begins a control sequence.
pub fn escape_json(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() && c != '\n')
}

/// One log line, without its end: characters that control a terminal or begin another line become
/// `\uXXXX`, which leaves a line of JSON equivalent.
pub fn escape_line(text: &str) -> Cow<'_, str> {
    escape(text, char::is_control)
}

fn escape(text: &str, drives: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(drives) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 16), |mut escaped, c| {
        if drives(c) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
        escaped
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replaces_control_characters_and_keeps_other_text() {
        assert_eq!(
            clean("a\u{1b}[2J\u{9b}1m\tb\nc\u{7f}"),
            "a\u{fffd}[2J\u{fffd}1m\u{fffd}b\u{fffd}c\u{fffd}"
        );
        assert_eq!(clean_lines("a\r\nb\u{1b}c"), "a\u{fffd}\nb\u{fffd}c");
        assert_eq!(escape_line("a\nb\u{9b}c"), "a\\u000ab\\u009bc");
        for plain in ["", "Füße, 你好 → ok"] {
            assert!(matches!(clean(plain), Cow::Borrowed(same) if same == plain));
            assert!(matches!(escape_line(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    proptest! {
        #[test]
        fn escaped_json_keeps_its_value_and_has_no_control_characters(text in "(?s).*") {
            let value = serde_json::json!({ "text": text });
            for json in [serde_json::to_string_pretty(&value)?, value.to_string()] {
                let escaped = escape_json(&json);
                prop_assert!(!escaped.contains(|c: char| c.is_control() && c != '\n'));
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped)?, value.clone());
            }
        }

        #[test]
        fn cleaned_lines_have_no_control_characters(text in "(?s).*") {
            prop_assert!(!clean(&text).contains(char::is_control));
            prop_assert!(!escape_line(&text).contains(char::is_control));
        }
    }
}
