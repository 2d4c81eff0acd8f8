//! Server-sent events (WHATWG HTML, 9.2.6) from bytes: no I/O, bounded memory.

use std::time::Duration;

/// Far above a status event of a few hundred bytes.
pub(super) const MAX_EVENT: usize = 256 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its data lines, joined by line breaks.
    pub(super) data: String,
}

/// The server sends an endless line or event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Turns chunks, split anywhere, into events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    data: Option<String>,
    last_id: Option<String>,
    retry: Option<Duration>,
}

impl Parser {
    /// The id of the last event that had one: `Last-Event-ID` of a reconnect.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long the server asks us to wait before reconnecting.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes a chunk and returns the events that it completes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in chunk {
            // CR, LF and CRLF each end a line: the LF of a CRLF does not end another.
            let second_half = byte == b'\n' && std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_of_line()?);
                }
                _ => {
                    self.after_cr = false;
                    if self.line.len() >= MAX_EVENT {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, TooLong> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Ok(self.data.take().map(|data| Event { data }));
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) if data.len() + value.len() >= MAX_EVENT => return Err(TooLong),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "retry" => {
                if let Ok(milliseconds) = value.parse() {
                    self.retry = Some(Duration::from_millis(milliseconds));
                }
            }
            // Comments (an empty field name), event types and future fields.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(parser: &mut Parser, chunk: &str) -> Vec<String> {
        parser.push(chunk.as_bytes()).unwrap().into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn events_ids_and_comments() {
        let mut parser = Parser::default();
        let stream = "retry: 1500\n: hello\n\nid: 7\nevent: status\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\ndata: cut";
        assert_eq!(data(&mut parser, stream), ["{\"a\":1}", "x\ny"]);
        assert_eq!(parser.last_id(), Some("7"));
        assert_eq!(parser.retry(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn overlong_lines_and_events_are_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'a'; MAX_EVENT + 1]), Err(TooLong));
        let mut parser = Parser::default();
        let many = "data: 0123456789\n".repeat(MAX_EVENT / 10);
        assert_eq!(parser.push(many.as_bytes()), Err(TooLong));
    }

    proptest! {
        /// Where the network cuts the bytes makes no difference.
        #[test]
        fn any_split_yields_the_same_events(
            values in proptest::collection::vec("[a-z: ]{0,20}", 1..6),
            end in prop_oneof![Just("\n"), Just("\r"), Just("\r\n")],
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let events: Vec<_> =
                values.iter().map(|value| format!("data: {value}{end}{end}")).collect();
            let stream = events.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < stream.len()).collect();
            cuts.push(stream.len());
            cuts.sort_unstable();
            let (mut parser, mut found, mut from) = (Parser::default(), Vec::new(), 0);
            for cut in cuts {
                found.extend(data(&mut parser, &stream[from..cut]));
                from = cut;
            }
            prop_assert_eq!(found, values);
        }
    }
}
