//! The log, on standard error: one line per event, whatever is in it.

use std::io::{self, Write};

use buddo_shared::terminal::escape_line;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging. `RUST_LOG` overrides the default.
pub fn begin(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines(io::stderr()))
        .with_ansi(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Passes lines on without terminal control sequences. The formatter escapes some of them in
/// messages, but not line breaks, with which a registry's or a container's text could pass for
/// lines of the agent's.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    /// The formatter passes one whole event at a time, with its final line break.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        self.0.write_all(format!("{}{end}", escape_line(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A registry's refusal as Podman passes it on.
    fn refuse() {
        let said = "denied: \u{1b}]0;owned\u{7}\u{9b}2J\n2026-11-23T00:00:00Z  INFO all is well";
        let error = io::Error::other(said);
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, said, "failed: {said}");
    }

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        for json in [false, true] {
            let kept = Kept::default();
            let writer = kept.clone();
            let log = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || Lines(writer.clone()));
            if json {
                tracing::subscriber::with_default(log.json().finish(), refuse);
            } else {
                tracing::subscriber::with_default(log.finish(), refuse);
            }
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let line = text.strip_suffix('\n').unwrap();
            assert!(line.contains("denied: ") && !line.contains(char::is_control), "{line:?}");
            if json {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
}
