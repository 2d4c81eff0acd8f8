//! What an agent reports to the coordinator, over one stream that the coordinator keeps open.
//!
//! ```text
//! GET /v1/reports?after=SEQ     NDJSON of Frame, kept open; begins with what is unacknowledged
//! POST /v1/reports/ack          {"through": SEQ}: the coordinator has committed all up to SEQ
//! ```

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::host_wire::manifest::{ServiceSpec, Services};
use crate::model::id::{DeploymentId, Generation, Revision};
use crate::model::image::Digest;
use crate::model::workload::{ReplicaIndex, ServiceName};

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

/// The observed state of one deployment: a summary, and its parts. A level, not an edge: only the
/// newest one matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// The deployment that this is about.
    pub id: DeploymentId,
    /// The desired revision of the document.
    pub revision: Revision,
    /// How far that revision has got: as far as its service that is furthest behind.
    pub phase: Phase,
    /// The revision of the deployment that now answers visitors.
    pub serving: Option<Revision>,
    /// The worst health of its containers that serve, or of those being probed.
    pub health: Health,
    /// The last finished probe.
    pub checked_at: Option<Timestamp>,
    /// Why the phase is `failed`, or why it does not progress.
    pub failure: Option<Failure>,
    /// The revision that the host restores by itself, because auto rollback gave up `revision`,
    /// which had been live. `None` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<Revision>,
    /// How often its serving containers ended by themselves or had to be replaced, with less than
    /// ten minutes between two.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Its services: those of `revision`, and those that still exist although it does not have them.
    #[serde(deserialize_with = "at_most::<MAX_SERVICES, _, _>")]
    pub services: Vec<ServiceStatus>,
}

impl DeploymentStatus {
    /// Its services, where a person has to be told of them: an app that consists of the one service
    /// [`ServiceName::APP`] is the app.
    pub fn named_services(&self) -> &[ServiceStatus] {
        match &*self.services {
            [only] if only.name == ServiceName::APP => &[],
            services => services,
        }
    }
}

/// The observed state of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// The desired revision of its content.
    pub revision: Revision,
    /// How far that has got: as far as the replica that is furthest behind.
    pub phase: Phase,
    /// The digest that the image of `revision` was resolved to.
    pub digest: Option<Digest>,
    /// Why the phase is `failed`, or why it does not progress.
    pub failure: Option<Failure>,
    /// Its replicas.
    #[serde(deserialize_with = "at_most::<MAX_REPLICAS, _, _>")]
    pub replicas: Vec<ReplicaStatus>,
}

/// The observed state of one of a service's equal containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its number.
    pub replica: ReplicaIndex,
    /// The revision of the content that it now serves.
    pub serving: Option<Revision>,
    /// Health of the container that serves, or of the one being probed.
    pub health: Health,
    /// The last finished probe.
    pub checked_at: Option<Timestamp>,
    /// Name of the container that serves or is starting.
    pub container: Option<String>,
    /// How often the serving container ended by itself or had to be replaced, with less than ten
    /// minutes between two.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
}

/// The most services in a status: those of one revision, and as many that are being removed.
pub const MAX_SERVICES: usize = 2 * Services::MAX;

/// The most replicas in a status.
pub const MAX_REPLICAS: usize = ServiceSpec::MAX_REPLICAS as usize;

/// Reads a sequence of at most `MAX` elements, and none after that: its sender does not decide how
/// much memory it takes.
fn at_most<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct AtMost<const MAX: usize, T>(PhantomData<T>);

    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a sequence of at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = sequence.next_element()? {
                if elements.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(AtMost::<MAX, T>(PhantomData))
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
    /// It is being stopped and still drains.
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.cause, self.fix)
    }
}

/// How far a step has got, for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The deployment that this is about.
    pub id: DeploymentId,
    /// The service that is being rolled out.
    pub service: ServiceName,
    /// The revision of the deployment that is being rolled out.
    pub revision: Revision,
    /// The phase that it is in.
    pub phase: Phase,
    /// Per cent of the phase, if known (pulling).
    pub percent: Option<u8>,
}

/// A probe of a container of the public service that changed nothing.
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

    fn replica(number: u16) -> ReplicaStatus {
        ReplicaStatus {
            replica: ReplicaIndex::new(number),
            serving: Some(Revision::FIRST),
            health: Health::Healthy,
            checked_at: None,
            container: None,
            restarts: 0,
        }
    }

    fn service(name: &str) -> ServiceStatus {
        ServiceStatus {
            name: ServiceName::parse(name).unwrap(),
            revision: Revision::FIRST,
            phase: Phase::Live,
            digest: None,
            failure: None,
            replicas: vec![replica(0)],
        }
    }

    fn status(services: Vec<ServiceStatus>) -> DeploymentStatus {
        DeploymentStatus {
            id: DeploymentId::new(Uuid::from_u128(1)),
            revision: Revision::FIRST,
            phase: Phase::Live,
            serving: Some(Revision::FIRST),
            health: Health::Healthy,
            checked_at: None,
            failure: None,
            rolled_back_to: None,
            restarts: 0,
            services,
        }
    }

    #[test]
    fn restarts_are_named_once_there_are_any() {
        let quiet = serde_json::to_value(status(vec![service("app")])).unwrap();
        assert_eq!(quiet.get("restarts"), None);
        let read: DeploymentStatus = serde_json::from_value(quiet).unwrap();
        assert_eq!(read, status(vec![service("app")]));
        let restarted = DeploymentStatus { restarts: 3, ..read };
        assert_eq!(serde_json::to_value(restarted).unwrap()["restarts"], 3);
    }

    #[test]
    fn a_status_names_no_more_parts_than_a_manifest_allows() {
        let read = |status: &DeploymentStatus| {
            let text = serde_json::to_string(status).unwrap();
            serde_json::from_str::<DeploymentStatus>(&text)
        };
        let most = status(vec![service("app"); MAX_SERVICES]);
        assert_eq!(read(&most).unwrap(), most);
        let error = read(&status(vec![service("app"); MAX_SERVICES + 1])).unwrap_err();
        assert!(error.to_string().contains("at most 32 elements"), "{error}");
        let replicas = (0..=ServiceSpec::MAX_REPLICAS).map(replica).collect();
        let many = status(vec![ServiceStatus { replicas, ..service("app") }]);
        assert!(read(&many).is_err());
    }

    #[test]
    fn every_kind_of_frame_round_trips() {
        let id = DeploymentId::new(Uuid::from_u128(1));
        let at = Timestamp::UNIX_EPOCH;
        let revision = Revision::FIRST;
        let frames = [
            Frame::Report(Report { seq: 1, at, body: ReportBody::Removed { id } }),
            Frame::Report(Report {
                seq: 2,
                at,
                body: ReportBody::Deployment(status(vec![service("web"), service("worker")])),
            }),
            Frame::Progress(Progress {
                id,
                service: ServiceName::APP,
                revision,
                phase: Phase::Pulling,
                percent: Some(43),
            }),
            // A sequence: an internally tagged enum could not carry it.
            Frame::Checked(vec![Checked { id, at }]),
        ];
        for frame in frames {
            let line = serde_json::to_string(&frame).unwrap();
            assert_eq!(serde_json::from_str::<Frame>(&line).unwrap(), frame, "{line}");
        }
    }
}
