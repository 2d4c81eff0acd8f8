//! What unit tests of several modules need.

use buddo_shared::host_wire::manifest::{
    DeploymentSpec, Manifest, RunState, SCHEMA, ServiceSpec, Services, Strategy,
};
use buddo_shared::host_wire::report::{DeploymentStatus, Health, HostStatus, Phase};
use buddo_shared::host_wire::signed::{Signer, Verifier};
use buddo_shared::model::id::{DeploymentId, Generation, HostId, Revision};
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::name::{HostName, Subdomain};
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::workload::{ServiceName, SpecDigest};
use jiff::Timestamp;
use uuid::Uuid;

use crate::model::document::Document;
use crate::model::snapshot::{DeploymentSnapshot, HostSnapshot};

/// Deployment number `n`: the one public service `app`, of this image.
pub(crate) fn desired(n: u128, image: &str) -> DeploymentSpec {
    DeploymentSpec {
        id: DeploymentId::new(Uuid::from_u128(n)),
        revision: Revision::FIRST,
        subdomain: Subdomain::parse(&format!("app-{n}")).unwrap(),
        run: RunState::Running,
        domains: Vec::new(),
        services: Services::try_from(vec![service("app", image)]).unwrap(),
        auto_rollback: None,
        kept_images: Vec::new(),
    }
}

/// A public service of revision 1 with one replica.
pub(crate) fn service(name: &str, image: &str) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName::parse(name).unwrap(),
        revision: Revision::FIRST,
        spec: SpecDigest::from_bytes(&[0; 32]),
        replicas: 1,
        public: true,
        image: ImageReference::parse(image).unwrap(),
        digest: None,
        port: Port::DEFAULT,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
        probe: Probe::default(),
        strategy: Strategy::Rolling,
        env: None,
        registry_credentials: None,
    }
}

/// A document of generation 1.7, signed and verified as any other.
pub(crate) fn document(deployments: Vec<DeploymentSpec>) -> Document {
    let host_id = HostId::new(Uuid::from_u128(9));
    let signer = Signer::generate().unwrap();
    let manifest = Manifest {
        schema: SCHEMA,
        host_id,
        generation: Generation { epoch: 1, generation: 7 },
        issued_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        zone: HostName::parse("apps.example").unwrap(),
        deployments,
        trust: None,
    };
    let envelope = signer.sign(&manifest).unwrap();
    let verifier = Verifier::new(host_id, std::slice::from_ref(signer.public())).unwrap();
    Document::new(verifier.verify(&envelope.bytes).unwrap())
}

/// A host that knows that document and shows no deployments.
pub(crate) fn snapshot(joined: bool) -> HostSnapshot {
    let host = HostStatus {
        agent_version: "0.1.0".to_owned(),
        podman_version: None,
        caddy_version: None,
        document: Some(Generation { epoch: 1, generation: 7 }),
        stale: false,
        memory_mb: 1,
        allocatable_mb: None,
        cpu_millicores: 1,
        warnings: Vec::new(),
        lacks: None,
    };
    HostSnapshot { joined, host, deployments: Vec::new() }
}

/// Deployment `id`, live with its first revision; nothing is said of its services.
pub(crate) fn status(id: DeploymentId) -> DeploymentStatus {
    DeploymentStatus {
        id,
        revision: Revision::FIRST,
        phase: Phase::Live,
        serving: Some(Revision::FIRST),
        health: Health::Healthy,
        checked_at: None,
        failure: None,
        rolled_back_to: None,
        restarts: 0,
        services: Vec::new(),
    }
}

/// A running deployment with this status, of which nothing else is known.
pub(crate) fn deployment_snapshot(status: DeploymentStatus) -> DeploymentSnapshot {
    DeploymentSnapshot {
        subdomain: Some("blog".to_owned()),
        host: Some("blog.example.com".to_owned()),
        run: Some(RunState::Running),
        status,
        given_up: None,
        watched_s: None,
        kills: 0,
        counts: None,
        last_exit: None,
        retry_s: None,
        target: None,
        containers: Vec::new(),
        doing: Vec::new(),
        planned: Vec::new(),
        next_look_ms: None,
    }
}
