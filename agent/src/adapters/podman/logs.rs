//! The last words of a container, out of Podman's log stream.

/// Lines that are asked for.
pub(super) const LINES: usize = 20;

/// Bytes that are kept.
const MAX_TAIL: usize = 4 * 1024;

/// The end of a log in Docker's framing: 8 bytes of head (stream, three zeros, length in big
/// endian), then as many bytes of text. Control characters are dropped, so that nothing an app
/// prints can steer the terminal that shows it. A cut-off frame counts as far as it came.
pub(super) fn tail(mut framed: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((head, rest)) = framed.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (frame, rest) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(frame);
        // The service ends each frame with a line feed of its own beside the one it counted.
        framed = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    let start = text.len().saturating_sub(MAX_TAIL);
    String::from_utf8_lossy(&text[start..])
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_joined_and_made_harmless() {
        // The first frame is byte for byte what Podman 4.3.1 sent.
        let framed = b"\x01\0\0\0\0\0\0\x05boom\n\n\x02\0\0\0\0\0\0\x09\x1b[2Jouch\n";
        assert_eq!(tail(framed), "boom\n[2Jouch");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bounded_text(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            // Three bytes of replacement character at most for each one kept.
            prop_assert!(tail(&bytes).len() <= MAX_TAIL * 3);
        }
    }
}
