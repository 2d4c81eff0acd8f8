//! One desired revision: the document's own, or the one it names as fallback.
//!
//! A rollout works from this and need not know which of the two it is.

use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::limits::Limits;
use buddo_shared::manifest::{DeploymentSpec, Strategy};
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use buddo_shared::sealed::Sealed;

/// A whole revision. Borrowed from the deployment's entry in the document.
#[derive(Debug, Clone, Copy)]
pub struct RevisionSpec<'a> {
    pub deployment: DeploymentId,
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
    /// The revision that the document asks for.
    pub fn asked_for(desired: &'a DeploymentSpec) -> Self {
        Self {
            deployment: desired.id,
            revision: desired.revision,
            image: &desired.image,
            digest: desired.digest.as_ref(),
            port: desired.port,
            limits: desired.limits,
            probe: &desired.probe,
            strategy: desired.strategy,
            env: desired.env.as_ref(),
            registry_credentials: desired.registry_credentials.as_ref(),
        }
    }

    /// The revision that can be put back.
    pub fn fallback(desired: &'a DeploymentSpec) -> Option<Self> {
        let fallback = &desired.guard.as_ref()?.fallback;
        Some(Self {
            revision: fallback.revision,
            image: &fallback.image,
            digest: Some(&fallback.digest),
            port: fallback.port,
            probe: &fallback.probe,
            env: fallback.env.as_ref(),
            registry_credentials: fallback.registry_credentials.as_ref(),
            // Tier and strategy belong to the deployment, not to a revision.
            ..Self::asked_for(desired)
        })
    }

    /// The revision with this number, if the document describes it.
    pub fn of(desired: &'a DeploymentSpec, revision: Revision) -> Option<Self> {
        [Some(Self::asked_for(desired)), Self::fallback(desired)]
            .into_iter()
            .flatten()
            .find(|wanted| wanted.revision == revision)
    }

    /// The probe for a container of this revision. A revision that the document no longer describes
    /// is probed like the present one.
    pub fn probe_of(desired: &'a DeploymentSpec, revision: Revision) -> &'a Probe {
        Self::of(desired, revision).map_or(&desired.probe, |wanted| wanted.probe)
    }
}
