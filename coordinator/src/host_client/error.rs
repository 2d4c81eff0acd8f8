//! Why a host could not be reached or asked.

use std::time::Duration;

use buddo_runtime::error_chain::chain;
use http::StatusCode;
use jiff::Timestamp;

use crate::crypto::ca::CaError;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A host cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The coordinator's own certificate cannot be made.
    #[error("cannot set up TLS")]
    Tls(#[source] CaError),
    /// No TCP or TLS connection.
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open HTTP/2")]
    Handshake(#[source] h2::Error),
    #[error("{operation}: no answer within {} s", within.as_secs())]
    Deadline { operation: &'static str, within: Duration },
    /// It has a valid certificate of the host, but not the key the host joined with.
    #[error(
        "what answers at {0} holds a copy of an older identity of this host; stop it, or let the \
         host join again"
    )]
    OtherKey(String),
}

impl ConnectError {
    /// Whether the host is up and its agent is not: the connection was refused at once.
    pub(crate) fn is_agent_down(&self) -> bool {
        let Self::Connect { source, .. } = self else { return false };
        source.kind() == std::io::ErrorKind::ConnectionRefused
    }
}

/// A call to a host failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no connection to begin with.
    #[error("{}: {why}", not_connected(*since))]
    NotConnected {
        /// `None`: not since this process started.
        since: Option<Timestamp>,
        why: String,
    },
    /// The limit of concurrent calls was reached the whole time.
    #[error(
        "{operation}: too many calls to hosts are in progress, and none ended within {} s; try \
         again later",
        within.as_secs()
    )]
    Busy { operation: &'static str, within: Duration },
    /// No head of an answer in time.
    #[error("{operation}: no answer within {} s", within.as_secs())]
    Deadline { operation: &'static str, within: Duration },
    /// The call was in progress, and nothing more of its body came or could be sent.
    #[error("{operation}: nothing moved for {} s", within.as_secs())]
    Idle { operation: &'static str, within: Duration },
    /// The connection ended during the call.
    #[error("{operation}: the connection to the host ended: {why}")]
    Disconnected { operation: &'static str, why: String },
    /// The agent ended this call alone.
    #[error("{operation}: the agent broke it off")]
    Reset {
        operation: &'static str,
        #[source]
        source: h2::Error,
    },
    /// The source of an upload failed.
    #[error("{operation}: cannot read what to send")]
    Upload {
        operation: &'static str,
        #[source]
        source: Cause,
    },
    #[error("{operation}: the agent refused with {status} {code}: {detail}")]
    Refused { operation: &'static str, status: StatusCode, code: String, detail: String },
    /// The answer is too long, or is not what this program reads.
    #[error("{operation}: cannot read the answer")]
    Answer {
        operation: &'static str,
        #[source]
        source: Cause,
    },
    #[error("{operation}: cannot write the request")]
    Request {
        operation: &'static str,
        #[source]
        source: Cause,
    },
    /// The agent acknowledged another document than the one that was sent.
    #[error("the agent acknowledged another document than the one sent")]
    Mismatch,
}

fn not_connected(since: Option<Timestamp>) -> String {
    match since {
        Some(since) => format!("the host has not been connected since {since:.0}"),
        None => "the host is not connected".to_owned(),
    }
}

impl CallError {
    /// `ended`: why the whole connection has ended, if it has.
    pub(super) fn broken(
        operation: &'static str,
        source: h2::Error,
        ended: Option<String>,
    ) -> Self {
        match ended {
            Some(why) => Self::Disconnected { operation, why },
            None if source.is_reset() => Self::Reset { operation, source },
            None => Self::Disconnected { operation, why: chain(&source) },
        }
    }
}
