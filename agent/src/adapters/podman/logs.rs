//! The last output of a container, from Podman's log stream.

/// Lines requested.
pub(super) const LINES: usize = 20;

/// Bytes kept.
const MAX_TAIL: usize = 4 * 1024;

/// The end of a log in Docker's framing: an 8-byte header (stream, three zeros, length in big
/// endian), then that many bytes of text. Control characters are dropped, so that nothing an app
/// prints can steer the terminal that shows it. A truncated frame counts as far as it came.
pub(super) fn tail(mut framed: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((head, rest)) = framed.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (frame, rest) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(frame);
        // The service ends each frame with a line feed beyond the counted length.
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
    fn log_frames_are_joined_without_control_characters() {
        // The first frame is byte for byte what Podman 4.3.1 sent.
        let framed = b"\x01\0\0\0\0\0\0\x05boom\n\n\x02\0\0\0\0\0\0\x09\x1b[2Jouch\n";
        assert_eq!(tail(framed), "boom\n[2Jouch");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bounded_text(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            // Up to three bytes of replacement character for each byte kept.
            prop_assert!(tail(&bytes).len() <= MAX_TAIL * 3);
        }
    }
}
