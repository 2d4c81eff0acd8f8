//! Lines of a container's log, as a host sends them: NDJSON, oldest first.
//!
//! ```text
//! GET /v1/deployments/{id}/log?tail=N&follow=true     kept open until the container ends
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most bytes of a line that are sent; the rest of it is left out.
pub const MAX_LINE: usize = 16 * 1024;

/// The most lines that a reader may ask for from the past.
pub const MAX_TAIL: u32 = 1_000;

/// One line that an app has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where the app wrote it to.
    pub stream: LogStream,
    /// When; missing if the host's Podman did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The text without its line end, as the app wrote it: it may hold control characters.
    pub line: String,
}

/// Where an app writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
