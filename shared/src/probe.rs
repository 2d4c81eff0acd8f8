//! How a container's health is asked.

use serde::{Deserialize, Serialize};

/// What counts as an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProbeKind {
    /// `GET path`: any status below 500 is healthy. An answer that is not HTTP counts as a
    /// healthy TCP service; silence or a connection closed without a byte does not.
    Http {
        /// Absolute path, such as `/`.
        path: String,
    },
    /// The connection is accepted and stays open.
    Tcp,
}

/// When and how often a container is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What counts as an answer.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// Between two probes of a container that serves, in milliseconds.
    pub interval_ms: u32,
    /// Until one probe counts as failed, in milliseconds.
    pub timeout_ms: u32,
    /// Good probes in a row that make a container healthy.
    pub healthy_after: u32,
    /// Failed probes in a row that make a serving container unhealthy.
    pub unhealthy_after: u32,
    /// How long a new container may take to become healthy before its deploy fails, in
    /// milliseconds.
    pub start_deadline_ms: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Http { path: "/".to_owned() },
            interval_ms: 10_000,
            timeout_ms: 2_000,
            healthy_after: 1,
            unhealthy_after: 3,
            start_deadline_ms: 60_000,
        }
    }
}
