//! Connections to hosts: one per host, mutual TLS 1.3 and HTTP/2, for pushes and reads alike.
//!
//! ```text
//! session ─ open, push ─► Connection ─ register ─► HostConnections ◄─ get(host) ─ reads: logs, …
//!                            │ drives, pings             │
//!                            └──► HostHandle ◄───────────┘ call
//!                                    └─► a permit ─► one stream: upload ══► agent ══► ResponseBody
//! ```
//!
//! Only the session that opened a connection has permits for pushes, since it alone knows whether
//! this process holds the host's lease. Everybody else gets a handle, meant for reads.
//!
//! A stream that nobody reads holds its own window and nothing else. That works only while the
//! window of the connection holds the windows of all streams together: were it smaller, a few
//! stalled readers would use it up, and documents and reports would wait behind them.

mod error;
mod handle;
mod idle;
mod open;
mod read_buffer;
mod registry;
mod response;
mod upload;

use buddo_shared::host_wire::connection::MAX_CALLS;

pub use self::error::{CallError, ConnectError};
pub use self::handle::{Deadlines, HostHandle, RequestBody};
pub(crate) use self::open::{Connection, Endpoint};
pub use self::registry::HostConnections;
pub use self::response::ResponseBody;

/// Bytes of one answer that may wait here for their reader. Over a network with a round trip of 20
/// ms that is 3 MB/s for each reader.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes on their way beside full windows of all streams, so that none waits for an update.
const RESERVE: u32 = 256 * 1024;

/// Bytes of all answers of one host that may wait here: about 4 MiB.
const CONNECTION_WINDOW: u32 = MAX_CALLS * STREAM_WINDOW + RESERVE;

/// Bytes of one upload that may wait here for the network.
const SEND_BUFFER: usize = 128 * 1024;
