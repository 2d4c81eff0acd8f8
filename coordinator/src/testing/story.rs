//! A deployment on a host, with the reports and documents of that host.

use buddo_shared::api::deploy::{CreateDeployment, Rollback};
use buddo_shared::host_wire::manifest::{DeploymentSpec, Manifest};
use buddo_shared::host_wire::report::{
    DeploymentStatus, Failure, Health, Phase, ReplicaStatus, Report, ReportBody, ServiceStatus,
};
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::host_wire::signed::Verifier;
use buddo_shared::model::id::{DeploymentId, HostId, Revision};
use buddo_shared::model::image::Digest;
use buddo_shared::model::workload::ReplicaIndex;

use super::{World, owner, request};
use crate::domain::deployment::Deployment;
use crate::hosts;
use crate::service::deployments::DeployError;
use crate::service::hosts::reports::{self, Complaints};
use crate::state::AppState;
use crate::store::StoreError;
use crate::testing::deploys as deployments;

/// A distinct digest for revision `n`.
pub(crate) fn digest(n: u32) -> Digest {
    Digest::parse(&format!("sha256:{n:064x}")).unwrap()
}

/// A report as a host makes it; a failed one says that the image does not exist.
pub(crate) fn status(
    id: DeploymentId,
    revision: u32,
    phase: Phase,
    serving: Option<u32>,
) -> DeploymentStatus {
    DeploymentStatus {
        id,
        revision: Revision::new(revision),
        phase,
        serving: serving.map(Revision::new),
        health: Health::Healthy,
        checked_at: None,
        failure: (phase == Phase::Failed).then(|| Failure {
            code: "image_not_found".to_owned(),
            cause: "the registry has no such image".to_owned(),
            fix: "check the name and the tag".to_owned(),
        }),
        rolled_back_to: None,
        restarts: 0,
        services: vec![service("app", revision, None)],
    }
}

/// What a report says about one service whose content `revision` introduced.
pub(crate) fn service(name: &str, revision: u32, digest: Option<Digest>) -> ServiceStatus {
    ServiceStatus {
        name: name.parse().unwrap(),
        revision: Revision::new(revision),
        phase: Phase::Live,
        digest,
        failure: None,
        replicas: Vec::new(),
    }
}

/// The same with one replica in a container of this name.
pub(crate) fn in_container(name: &str, revision: u32, container: &str) -> ServiceStatus {
    let replica = ReplicaStatus {
        replica: ReplicaIndex::FIRST,
        serving: Some(Revision::new(revision)),
        health: Health::Healthy,
        checked_at: None,
        container: Some(container.to_owned()),
        restarts: 0,
    };
    ServiceStatus { replicas: vec![replica], ..service(name, revision, None) }
}

/// The report, which also tells the digest of the app's image.
pub(crate) fn resolved(status: DeploymentStatus, digest: Digest) -> DeploymentStatus {
    let services = vec![service("app", status.revision.get(), Some(digest))];
    DeploymentStatus { services, ..status }
}

/// Commits reports of a host, as the first batch of a session.
pub(crate) async fn commit(
    state: &AppState,
    host: HostId,
    reports: Vec<Report>,
) -> Result<u64, StoreError> {
    reports::commit(state, host, reports, &mut Complaints::default()).await
}

pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) host: HostId,
    pub(crate) id: DeploymentId,
    pub(crate) opening: OpeningKey,
    seq: u64,
}

impl Story {
    pub(crate) async fn begin() -> Self {
        Self::of(World::new(), request("my-app")).await
    }

    pub(crate) async fn of(world: World, request: CreateDeployment) -> Self {
        let (host, opening) = world.host(1, 4096).await;
        let made = deployments::create(&world.state, owner(1), None, request, None).await;
        let id = made.unwrap().deployment.id.parse().unwrap();
        Self { world, host, id, opening, seq: 0 }
    }

    pub(crate) async fn report(&mut self, body: DeploymentStatus) -> Deployment {
        self.seq += 1;
        let at = self.world.state.clock.now();
        let report = Report { seq: self.seq, at, body: ReportBody::Deployment(body) };
        commit(&self.world.state, self.host, vec![report]).await.unwrap();
        self.stored().await
    }

    /// The host reports that `revision` is live, with its own digest.
    pub(crate) async fn goes_live(&mut self, revision: u32) -> Deployment {
        let live = status(self.id, revision, Phase::Live, Some(revision));
        self.report(resolved(live, digest(revision))).await
    }

    /// The host's auto rollback gives up `from` and restores `to`.
    pub(crate) async fn puts_back(&mut self, from: u32, to: u32) -> Deployment {
        let bad = self.bad(from, to);
        self.report(bad).await
    }

    pub(crate) fn bad(&self, from: u32, to: u32) -> DeploymentStatus {
        DeploymentStatus {
            rolled_back_to: Some(Revision::new(to)),
            failure: Some(Failure {
                code: "guard_crash_loop".to_owned(),
                cause: "it ended 3 times within 40 s".to_owned(),
                fix: "read its logs, then deploy a mended image".to_owned(),
            }),
            ..status(self.id, from, Phase::Failed, Some(from))
        }
    }

    pub(crate) async fn stored(&self) -> Deployment {
        let id = self.id;
        let read = self.world.state.store.read(move |tables| tables.deployment(id));
        read.await.unwrap().unwrap()
    }

    pub(crate) async fn generation(&self) -> u64 {
        let host = self.host;
        let read = self.world.state.store.read(move |tables| tables.host(host));
        read.await.unwrap().unwrap().wanted.generation
    }

    /// The audit log, as `action status`.
    pub(crate) async fn log(&self) -> Vec<String> {
        let log = deployments::logs(&self.world.state, owner(1), self.id).await.unwrap();
        log.logs.into_iter().map(|entry| format!("{} {}", entry.action, entry.status)).collect()
    }

    /// The details of the newest entry of the audit log.
    pub(crate) async fn details(&self) -> serde_json::Value {
        let log = deployments::logs(&self.world.state, owner(1), self.id).await.unwrap();
        log.logs.last().unwrap().details.clone().unwrap_or_default()
    }

    pub(crate) async fn restart(&self) {
        deployments::restart(&self.world.state, owner(1), self.id).await.unwrap();
    }

    pub(crate) async fn stop(&self) {
        deployments::stop(&self.world.state, owner(1), self.id).await.unwrap();
    }

    /// Rolls back; returns the number of the new revision.
    pub(crate) async fn roll_back(&self, to: Option<u32>) -> Result<u32, DeployError> {
        let request = Rollback { revision: to };
        let rolled =
            deployments::rollback(&self.world.state, owner(1), self.id, request, None).await?;
        Ok(rolled.deployment.revision)
    }

    /// Numbers of the kept revisions, newest first.
    pub(crate) async fn revisions(&self) -> Vec<u32> {
        let list = deployments::revisions(&self.world.state, owner(1), self.id).await.unwrap();
        list.revisions.into_iter().map(|revision| revision.revision).collect()
    }

    /// The host's document, as its agent reads it.
    pub(crate) async fn manifest(&self) -> Manifest {
        let state = &self.world.state;
        let document = hosts::document(state, self.host).await.unwrap();
        let verifier =
            Verifier::new(self.host, &[state.keys.keys().newest().public().clone()]).unwrap();
        verifier.verify(&document.envelope).unwrap().into_inner()
    }

    /// The document's entry for the deployment.
    pub(crate) async fn desired(&self) -> DeploymentSpec {
        self.manifest().await.deployments.remove(0)
    }
}
