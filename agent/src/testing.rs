//! What unit tests of several modules need.

use buddo_shared::id::{DeploymentId, Generation, HostId, Revision};
use buddo_shared::image::ImageReference;
use buddo_shared::limits::Limits;
use buddo_shared::manifest::{DeploymentSpec, Manifest, RunState, SCHEMA, Strategy};
use buddo_shared::name::{HostName, Subdomain};
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use buddo_shared::report::HostStatus;
use buddo_shared::signed::{Signer, Verifier};
use jiff::Timestamp;
use uuid::Uuid;

use crate::model::document::Document;
use crate::model::snapshot::HostSnapshot;

/// Deployment number `n`, of this image.
pub(crate) fn desired(n: u128, image: &str) -> DeploymentSpec {
    DeploymentSpec {
        id: DeploymentId::new(Uuid::from_u128(n)),
        revision: Revision::FIRST,
        subdomain: Subdomain::parse(&format!("app-{n}")).unwrap(),
        run: RunState::Running,
        image: ImageReference::parse(image).unwrap(),
        digest: None,
        port: Port::DEFAULT,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
        domains: Vec::new(),
        probe: Probe::default(),
        strategy: Strategy::Rolling,
        env: None,
        registry_credentials: None,
        guard: None,
        kept_images: Vec::new(),
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
