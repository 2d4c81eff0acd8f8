//! What an agent reports to the coordinator, over one stream that the coordinator keeps open.
//!
//! ```text
//! GET /v1/reports?after=SEQ     NDJSON of Frame, kept open; begins with what is unacknowledged
//! POST /v1/reports/ack          {"through": SEQ}: the coordinator has committed all up to SEQ
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{DeploymentId, Generation, Revision};
use crate::image::Digest;

/// One line of the report stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", content = "body", rename_all = "snake_case")]
pub enum Frame {
    /// Kept by the agent until acknowledged; sent again after a reconnect.
    Report(Report),
    /// Transient: never stored, never repeated.
    Progress(Progress),
    /// When serving containers were last found healthy; never stored, about every 30 s.
    Checked(Vec<Checked>),
}

/// A durable report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Rises by one with each report of a host; survives agent restarts.
    pub seq: u64,
    /// When the agent observed it.
    pub at: Timestamp,
    /// What is reported.
    #[serde(flatten)]
    pub body: ReportBody,
}

/// What was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReportBody {
    /// The state of one deployment changed.
    Deployment(DeploymentStatus),
    /// A deployment is gone from the host: containers, routes and secrets.
    Removed {
        /// The deployment that is gone.
        id: DeploymentId,
    },
    /// The state of the host changed.
    Host(HostStatus),
}

/// The observed state of one deployment. A level, not an edge: only the newest one matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// The deployment that this is about.
    pub id: DeploymentId,
    /// The desired revision of the document.
    pub revision: Revision,
    /// How far that revision has got.
    pub phase: Phase,
    /// The revision that now answers visitors.
    pub serving: Option<Revision>,
    /// Health of the serving container, or of the one being probed.
    pub health: Health,
    /// The last finished probe.
    pub checked_at: Option<Timestamp>,
    /// The digest that `revision` was resolved to.
    pub digest: Option<Digest>,
    /// Why the phase is `failed`, or why it does not progress.
    pub failure: Option<Failure>,
    /// Name of the container that serves or is starting.
    pub container: Option<String>,
    /// The revision that the host restores by itself, because auto rollback gave up `revision`,
    /// which had been live. `None` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_back: Option<Revision>,
    /// How often the serving container ended by itself or had to be replaced, with less than ten
    /// minutes between two. Missing from agents older than this counter.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde wants")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How far a revision is on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted, nothing done yet.
    Accepted,
    /// The image is being pulled.
    Pulling,
    /// The container is being created and started.
    Starting,
    /// The container runs and has not yet answered.
    Probing,
    /// It answers; the route and the certificate are being made.
    Routing,
    /// It answers visitors.
    Live,
    /// It shall be stopped and still drains.
    Stopping,
    /// It is stopped as asked.
    Stopped,
    /// The agent gave this revision up; `failure` says why. What served before still serves.
    Failed,
}

/// The result of probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not probed yet.
    Unknown,
    /// Enough successful probes in a row.
    Healthy,
    /// Too many failed probes in a row.
    Unhealthy,
}

/// Why something failed, for its operator: one line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable code for programs, such as `image_not_found`.
    pub code: String,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.cause, self.fix)
    }
}

/// How far a step has got, for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The deployment that this is about.
    pub id: DeploymentId,
    /// The revision that is being rolled out.
    pub revision: Revision,
    /// The phase that it is in.
    pub phase: Phase,
    /// Per cent of the phase, if known (pulling).
    pub percent: Option<u8>,
}

/// A probe of a serving container that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The deployment that was probed.
    pub id: DeploymentId,
    /// When it was last probed.
    pub at: Timestamp,
}

/// The host as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Version of the agent.
    pub agent_version: String,
    /// Version of Podman, if it answers.
    pub podman_version: Option<String>,
    /// Version of Caddy, if it answers.
    pub caddy_version: Option<String>,
    /// The document the agent works from.
    pub document: Option<Generation>,
    /// Whether that document has expired.
    pub stale: bool,
    /// Total memory of the machine, in MiB.
    pub memory_mb: u64,
    /// What its administrator allows for apps, in MiB; `None`: all but a reserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable_mb: Option<u64>,
    /// Processor cores in thousandths.
    pub cpu_millicores: u64,
    /// Messages for the administrator, one line each; empty when all is well.
    pub warnings: Vec<String>,
    /// What the host lacks, so that it should get no new apps for now; absent while it takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Box<Failure>>,
}

/// Body of `POST /v1/reports/ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// All reports up to and including this one are committed.
    pub through: u64,
}

/// Answer to `PUT /v1/desired-state`, given only after the document is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The generation now held.
    #[serde(flatten)]
    pub generation: Generation,
    /// `sha256:` of the payload bytes, so that the sender knows which bytes.
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_report_without_restarts_reads_and_is_written_as_before_they_were_counted() {
        let before = r#"{"id":"00000000-0000-0000-0000-000000000001","revision":1,"phase":"live",
            "serving":1,"health":"healthy","checked_at":null,"digest":null,"failure":null,
            "container":null}"#;
        let status: DeploymentStatus = serde_json::from_str(before).unwrap();
        assert_eq!(status.restarts, 0);
        let written = serde_json::to_value(&status).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(before).unwrap());
        let told = serde_json::to_value(DeploymentStatus { restarts: 3, ..status }).unwrap();
        assert_eq!(told["restarts"], 3);
    }

    #[test]
    fn every_kind_of_frame_survives_the_wire() {
        let id = DeploymentId::new(Uuid::from_u128(1));
        let at = Timestamp::UNIX_EPOCH;
        let revision = Revision::FIRST;
        let frames = [
            Frame::Report(Report { seq: 1, at, body: ReportBody::Removed { id } }),
            Frame::Progress(Progress { id, revision, phase: Phase::Pulling, percent: Some(43) }),
            // A sequence: an internally tagged enum could not carry it.
            Frame::Checked(vec![Checked { id, at }]),
        ];
        for frame in frames {
            let line = serde_json::to_string(&frame).unwrap();
            assert_eq!(serde_json::from_str::<Frame>(&line).unwrap(), frame, "{line}");
        }
    }
}
