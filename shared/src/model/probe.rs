//! How a container's health is probed.

use serde::{Deserialize, Serialize};

/// What counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProbeKind {
    /// `GET path`: any status below 500 is healthy. A non-HTTP answer counts as a healthy TCP
    /// service; silence, or a connection closed without a byte, does not.
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
    /// What counts as healthy.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// Interval between two probes of a serving container, in milliseconds.
    pub interval_ms: u32,
    /// Timeout of one probe, in milliseconds.
    pub timeout_ms: u32,
    /// Successful probes in a row that make a container healthy.
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
