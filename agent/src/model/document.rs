//! The document in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use buddo_shared::host_wire::manifest::{DeploymentSpec, Manifest};
use buddo_shared::host_wire::signed::Verified;
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::image::Digest;

use crate::model::spec::WorkloadSpec;
use crate::model::workload::WorkloadId;

/// The document in force. Made only from one whose signature was verified.
#[derive(Debug)]
pub struct Document {
    /// Without its deployments: those are in `entries`, and a large host should hold them once.
    manifest: Manifest,
    digest: Digest,
    entries: BTreeMap<DeploymentId, Arc<DeploymentSpec>>,
    workloads: BTreeMap<WorkloadId, WorkloadSpec>,
}

impl Document {
    pub(crate) fn new(verified: Verified<Manifest>) -> Self {
        let digest = verified.digest().clone();
        let mut manifest = verified.into_inner();
        let deployments = std::mem::take(&mut manifest.deployments);
        let entries: BTreeMap<_, _> =
            deployments.into_iter().map(|d| (d.id, Arc::new(d))).collect();
        let workloads =
            entries.values().flat_map(WorkloadSpec::of).map(|spec| (spec.id(), spec)).collect();
        Self { manifest, digest, entries, workloads }
    }

    /// The signed manifest without the deployments: those are the [`entries`](Self::entries).
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The whole signed manifest, deployments in the order of their ids: a large copy, meant for
    /// display.
    pub fn whole(&self) -> Manifest {
        let deployments = self.entries.values().map(|desired| desired.as_ref().clone()).collect();
        Manifest { deployments, ..self.manifest.clone() }
    }

    /// `sha256:` of the payload.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The desired deployments.
    pub fn entries(&self) -> &BTreeMap<DeploymentId, Arc<DeploymentSpec>> {
        &self.entries
    }

    /// What the desired deployments consist of: each replica of each service.
    pub fn workloads(&self) -> &BTreeMap<WorkloadId, WorkloadSpec> {
        &self.workloads
    }
}
