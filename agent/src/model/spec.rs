//! What is desired of one workload, and of one revision of it: the document's own, or the one that
//! it names as fallback.
//!
//! A rollout works from a [`RevisionSpec`] and need not know which of the two it is.

use std::sync::Arc;

use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState, ServiceSpec, Strategy};
use buddo_shared::host_wire::sealed::Sealed;
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::limits::Limits;
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::workload::ReplicaIndex;

use crate::model::workload::WorkloadId;

/// What the document says of one replica of a service. A cheap clone: it shares its deployment's
/// entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    deployment: Arc<DeploymentSpec>,
    /// Which of its services.
    service: usize,
    replica: ReplicaIndex,
}

impl WorkloadSpec {
    /// All workloads of a deployment, in the order of its document.
    pub fn of(deployment: &Arc<DeploymentSpec>) -> impl Iterator<Item = Self> {
        deployment.services.iter().enumerate().flat_map(move |(service, spec)| {
            spec.replica_indexes().map(move |replica| Self {
                deployment: Arc::clone(deployment),
                service,
                replica,
            })
        })
    }

    pub fn id(&self) -> WorkloadId {
        let (deployment, service) = (self.deployment.id, self.service().name);
        WorkloadId { deployment, service, replica: self.replica }
    }

    /// The deployment that it is part of.
    pub fn deployment(&self) -> &Arc<DeploymentSpec> {
        &self.deployment
    }

    /// The service that it is a replica of.
    pub fn service(&self) -> &ServiceSpec {
        // The index is that of one of its services, which never change.
        &self.deployment.services.as_slice()[self.service]
    }

    /// The revision that introduced the desired content.
    pub fn revision(&self) -> Revision {
        self.service().revision
    }

    /// The content to go back to; `None` also where it would be the same. It applies to all
    /// replicas, even if the service then had fewer: their number is no part of the content.
    pub fn fallback(&self) -> Option<&ServiceSpec> {
        let fallback = &self.deployment.auto_rollback.as_ref()?.fallback;
        let before = fallback.services.get(self.service().name)?;
        (before.revision != self.revision()).then_some(before)
    }

    /// Whether it should serve.
    pub fn run(&self) -> RunState {
        self.deployment.run
    }

    /// Whether visitors reach it by the deployment's names.
    pub fn public(&self) -> bool {
        self.service().public
    }
}

/// One revision of a workload. Borrowed from the deployment's entry in the document.
#[derive(Debug, Clone, Copy)]
pub struct RevisionSpec<'a> {
    pub workload: WorkloadId,
    pub revision: Revision,
    /// Its image as the operator named it.
    pub image: &'a ImageReference,
    /// The digest it resolves to, if the document says so.
    pub digest: Option<&'a Digest>,
    /// The port inside the container.
    pub port: Port,
    pub limits: Limits,
    /// How its health is probed.
    pub probe: &'a Probe,
    /// How it replaces what serves.
    pub strategy: Strategy,
    pub env: Option<&'a Sealed>,
    /// Sealed credentials for its registry.
    pub registry_credentials: Option<&'a Sealed>,
}

impl<'a> RevisionSpec<'a> {
    fn new(workload: WorkloadId, service: &'a ServiceSpec) -> Self {
        Self {
            workload,
            revision: service.revision,
            image: &service.image,
            digest: service.digest.as_ref(),
            port: service.port,
            limits: service.limits,
            probe: &service.probe,
            strategy: service.strategy,
            env: service.env.as_ref(),
            registry_credentials: service.registry_credentials.as_ref(),
        }
    }

    /// The revision that the document asks for.
    pub fn asked_for(desired: &'a WorkloadSpec) -> Self {
        Self::new(desired.id(), desired.service())
    }

    /// The revision that can be rolled back to.
    pub fn fallback(desired: &'a WorkloadSpec) -> Option<Self> {
        desired.fallback().map(|service| Self::new(desired.id(), service))
    }

    /// The revision with this number, if the document describes it.
    pub fn of(desired: &'a WorkloadSpec, revision: Revision) -> Option<Self> {
        described(desired, revision).map(|service| Self::new(desired.id(), service))
    }

    /// The probe for a container of this revision. A revision that the document no longer describes
    /// is probed like the present one.
    pub fn probe_of(desired: &'a WorkloadSpec, revision: Revision) -> &'a Probe {
        &described(desired, revision).unwrap_or_else(|| desired.service()).probe
    }
}

fn described(desired: &WorkloadSpec, revision: Revision) -> Option<&ServiceSpec> {
    let both = [Some(desired.service()), desired.fallback()];
    both.into_iter().flatten().find(|service| service.revision == revision)
}

#[cfg(test)]
mod tests {
    use buddo_shared::host_wire::manifest::{AutoRollback, Fallback, Services};

    use super::*;
    use crate::testing::{desired, service};

    fn services(list: Vec<ServiceSpec>) -> Services {
        Services::try_from(list).unwrap()
    }

    /// Revision 3: `app` is new, `worker` is that of revision 1, `added` did not exist before.
    fn deployment() -> Arc<DeploymentSpec> {
        let of = |name: &str, revision| ServiceSpec {
            public: name == "app",
            revision: Revision::new(revision),
            ..service(name, "ghcr.io/a/b:v1")
        };
        let worker = ServiceSpec { replicas: 2, ..of("worker", 1) };
        let before = services(vec![of("app", 2), worker.clone(), of("removed", 1)]);
        let fallback = Fallback { revision: Revision::new(2), services: before };
        Arc::new(DeploymentSpec {
            revision: Revision::new(3),
            services: services(vec![of("app", 3), worker, of("added", 3)]),
            auto_rollback: Some(Box::new(AutoRollback { seconds: 600, fallback })),
            ..desired(1, "ghcr.io/a/b:v1")
        })
    }

    #[test]
    fn each_replica_of_each_service_is_a_workload() {
        let deployment = deployment();
        let ids: Vec<_> = WorkloadSpec::of(&deployment).map(|spec| spec.id().to_string()).collect();
        let of = |rest: &str| format!("{}/{rest}", deployment.id);
        assert_eq!(ids, [of("app/0"), of("worker/0"), of("worker/1"), of("added/0")]);
        assert_eq!(WorkloadSpec::of(&deployment).filter(WorkloadSpec::public).count(), 1);
    }

    #[test]
    fn only_content_that_changed_has_a_fallback() {
        let back: Vec<_> = WorkloadSpec::of(&deployment())
            .map(|spec| spec.fallback().map(|service| service.revision.get()))
            .collect();
        assert_eq!(back, [Some(2), None, None, None]);
    }

    #[test]
    fn a_revision_is_found_by_the_number_of_its_content() {
        let deployment = deployment();
        let app = WorkloadSpec::of(&deployment).next().unwrap();
        let of = |revision| RevisionSpec::of(&app, Revision::new(revision));
        assert_eq!(of(3).map(|spec| spec.workload), Some(app.id()));
        assert!(of(2).is_some() && of(1).is_none());
        let worker = WorkloadSpec::of(&deployment).nth(1).unwrap();
        assert_eq!(RevisionSpec::asked_for(&worker).revision, Revision::new(1));
        assert!(RevisionSpec::of(&worker, Revision::new(3)).is_none(), "the deployment's number");
    }
}
