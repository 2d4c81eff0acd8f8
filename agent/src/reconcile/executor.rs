//! The executor: carries out one operation, step by step, and reports the outcome of each.
//!
//! Decisions do not belong here. An operation is not changed, reordered or repaired; it ends at the
//! first step that fails, or when its [permit](Operation::permit) is withdrawn; the next plan sees
//! why.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use buddo_shared::host_wire::manifest::RegistryCredentials;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::host_wire::sealed::{OpeningKey, Sealed};
use buddo_shared::model::env::EnvVars;
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::Digest;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::host::disk::ImageLeases;
use crate::model::container::ContainerSpec;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::step::{Lane, Step};
use crate::model::workload::{
    Identity, Slot, WorkloadId, container_name, container_owner, secret_owner, secret_prefix,
};
use crate::plan::messages;
use crate::plan::state::StepOutcome;
use crate::ports::{Containers, ContainersError};

/// How many secrets of one app are stored concurrently.
const SECRETS_AT_ONCE: usize = 4;

/// Steps for one workload, and everything they need.
#[derive(Debug)]
pub struct Operation {
    pub workload: WorkloadId,
    /// The revision that the steps are for.
    pub revision: Revision,
    pub lane: Lane,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// The workload's desired state; `None` where it should not exist.
    pub desired: Option<WorkloadSpec>,
    /// The digest that the image's tag was resolved to before.
    pub digest: Option<Digest>,
    /// Where slots A and B are published.
    pub addresses: Option<[SocketAddrV4; 2]>,
    /// Whether limits are passed on: not where the host cannot enforce them.
    pub limited: bool,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// Withdrawn when what the document says of the workload changes.
    pub permit: CancellationToken,
}

/// Receives what the executor reports while it works.
pub trait ExecutorObserver: Send + Sync {
    fn begins(&self, operation: &Operation, step: &Step);
    /// A step ended; the next one does not begin before this returns.
    fn ended(&self, operation: &Operation, step: &Step, outcome: StepOutcome);
    /// How far a slow step is, in per cent.
    fn progress(&self, operation: &Operation, step: &Step, percent: u8);
    /// A new container is to be probed from now on.
    fn watch(&self, operation: &Operation, name: &str, address: SocketAddrV4, probe: &Probe);
}

/// Carries out operations on `containers`.
pub struct Executor<C> {
    containers: Arc<C>,
    key: Option<Arc<OpeningKey>>,
    image_leases: ImageLeases,
}

impl<C> Clone for Executor<C> {
    fn clone(&self) -> Self {
        let containers = Arc::clone(&self.containers);
        Self { containers, key: self.key.clone(), image_leases: self.image_leases.clone() }
    }
}

/// A step's two ways to end early.
enum StepFailure {
    Podman(ContainersError),
    Unreadable(Failure),
}

impl From<ContainersError> for StepFailure {
    fn from(error: ContainersError) -> Self {
        Self::Podman(error)
    }
}

impl<C: Containers> Executor<C> {
    /// An executor that opens sealed values with `key`, and protects images by leases that the image
    /// GC respects.
    pub fn new(
        containers: Arc<C>,
        key: Option<Arc<OpeningKey>>,
        image_leases: ImageLeases,
    ) -> Self {
        Self { containers, key, image_leases }
    }

    /// Carries out `operation` to its end, its first failure or its withdrawal.
    pub async fn run(&self, operation: &Operation, observer: &dyn ExecutorObserver) {
        let mut digest = operation.digest.clone();
        // Protects the image from the first lookup until a container uses it.
        let mut _lease = None;
        for step in &operation.steps {
            if operation.permit.is_cancelled() {
                return;
            }
            observer.begins(operation, step);
            if let (Step::Image, Some(desired)) = (step, &operation.desired) {
                _lease = Some(self.image_leases.lease(&desired.service().image).await);
            }
            // A withdrawn operation does not finish a long pull; all other steps are short.
            let result = if *step == Step::Image {
                tokio::select! {
                    biased;
                    () = operation.permit.cancelled() => return,
                    result = self.step(operation, step, &mut digest, observer) => result,
                }
            } else {
                self.step(operation, step, &mut digest, observer).await
            };
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(StepFailure::Podman(error)) => StepOutcome::Failed(error),
                Err(StepFailure::Unreadable(failure)) => StepOutcome::Unreadable(failure),
            };
            let failed = matches!(outcome, StepOutcome::Failed(_) | StepOutcome::Unreadable(_));
            observer.ended(operation, step, outcome);
            if failed {
                return;
            }
        }
    }

    async fn step(
        &self,
        operation: &Operation,
        step: &Step,
        digest: &mut Option<Digest>,
        observer: &dyn ExecutorObserver,
    ) -> Result<StepOutcome, StepFailure> {
        let containers = &self.containers;
        match step {
            Step::PutSecrets => self.put_secrets(operation).await?,
            Step::Image => {
                let found = self.image(operation, digest.as_ref(), observer).await?;
                *digest = Some(found.clone());
                return Ok(StepOutcome::Image(found));
            }
            Step::Create(slot) => {
                let spec = self.container_spec(operation, *slot, digest.as_ref())?;
                containers.create(&spec).await?;
            }
            Step::Start(name) => containers.start(name).await?,
            Step::Watch(name) => {
                if let (Some(desired), Some(address)) =
                    (&operation.desired, operation.address_of(name))
                {
                    let probe = RevisionSpec::probe_of(desired, operation.revision);
                    observer.watch(operation, name, address, probe);
                }
            }
            Step::InspectExit(name) => {
                return Ok(StepOutcome::Ended(containers.inspect_exit(name).await?));
            }
            Step::Stop(name) => {
                return Ok(known(containers.stop(name, operation.stop_grace).await?));
            }
            Step::Remove(name) => return Ok(known(containers.remove(name).await?)),
            Step::EndOrphans(slot) => {
                containers.end_orphans(operation.workload, *slot, operation.stop_grace).await?;
            }
            Step::FreeAddress(slot) => {
                let address = operation.address(*slot).ok_or_else(|| missing("address"))?;
                containers.free_address(address).await?;
            }
            Step::RemoveSecrets(revision) => {
                for name in containers.secrets().await? {
                    if secret_owner(&name) == Some((operation.workload, *revision)) {
                        containers.remove_secret(&name).await?;
                    }
                }
            }
        }
        Ok(StepOutcome::Done)
    }

    async fn image(
        &self,
        operation: &Operation,
        digest: Option<&Digest>,
        observer: &dyn ExecutorObserver,
    ) -> Result<Digest, StepFailure> {
        let spec = operation.revision_spec()?;
        let image = match digest.or(spec.digest) {
            Some(digest) => spec.image.pinned(digest),
            None => spec.image.clone(),
        };
        // Only an image pinned by digest may be used without a pull: a tag may have moved.
        if image.digest().is_some()
            && let Some(digest) = self.containers.image(&image).await?
        {
            return Ok(digest);
        }
        let credentials = self.credentials(operation, &spec)?;
        let progress = |percent| observer.progress(operation, &Step::Image, percent);
        let pulled = self.containers.pull(&image, credentials.as_ref(), &progress).await?;
        // A digest was asked for by name: keep that name, whichever alias Podman lists first.
        Ok(image.digest().cloned().unwrap_or(pulled))
    }

    fn container_spec(
        &self,
        operation: &Operation,
        slot: Slot,
        digest: Option<&Digest>,
    ) -> Result<ContainerSpec, StepFailure> {
        let spec = operation.revision_spec()?;
        let address = operation.address(slot).ok_or_else(|| missing("address"))?;
        let digest = digest.ok_or_else(|| missing("image"))?;
        let identity =
            Identity { workload: operation.workload, revision: operation.revision, slot };
        let env = self.environment(operation, &spec)?.unwrap_or_default();
        let empty = env.iter().filter(|(_, value)| value.expose().is_empty());
        Ok(ContainerSpec {
            name: container_name(&identity),
            identity,
            image: spec.image.pinned(digest),
            address,
            port: spec.port,
            limits: operation.limited.then_some(spec.limits),
            secret_env: stored(operation, &env).map(|(k, _, name)| (k.to_owned(), name)).collect(),
            empty_env: empty.map(|(key, _)| key.as_str().to_owned()).collect(),
        })
    }

    async fn put_secrets(&self, operation: &Operation) -> Result<(), StepFailure> {
        let spec = operation.revision_spec()?;
        let Some(env) = self.environment(operation, &spec)? else { return Ok(()) };
        let calls: Vec<_> = stored(operation, &env)
            .map(|(_, value, name)| {
                let (containers, value) = (Arc::clone(&self.containers), value.clone());
                async move { containers.put_secret(&name, &value).await }
            })
            .collect();
        stream::iter(calls).buffer_unordered(SECRETS_AT_ONCE).try_collect::<()>().await?;
        Ok(())
    }

    fn environment(
        &self,
        operation: &Operation,
        spec: &RevisionSpec<'_>,
    ) -> Result<Option<EnvVars>, StepFailure> {
        let unreadable = || StepFailure::Unreadable(messages::unreadable("environment"));
        let Some(sealed) = spec.env else { return Ok(None) };
        let key = self.key.as_ref().ok_or_else(unreadable)?;
        let plain = sealed
            .open(key, Sealed::ENVIRONMENT, operation.workload.deployment)
            .map_err(|_| unreadable())?;
        EnvVars::from_plain_json(plain.expose()).map(Some).map_err(|_| unreadable())
    }

    fn credentials(
        &self,
        operation: &Operation,
        spec: &RevisionSpec<'_>,
    ) -> Result<Option<RegistryCredentials>, StepFailure> {
        let unreadable = || StepFailure::Unreadable(messages::unreadable("registry credentials"));
        let Some(sealed) = spec.registry_credentials else { return Ok(None) };
        let key = self.key.as_ref().ok_or_else(unreadable)?;
        let plain = sealed
            .open(key, Sealed::REGISTRY, operation.workload.deployment)
            .map_err(|_| unreadable())?;
        serde_json::from_str(plain.expose()).map(Some).map_err(|_| unreadable())
    }
}

impl Operation {
    fn revision_spec(&self) -> Result<RevisionSpec<'_>, StepFailure> {
        let desired = self.desired.as_ref();
        let spec = desired.and_then(|desired| RevisionSpec::of(desired, self.revision));
        spec.ok_or_else(|| missing("document entry"))
    }

    /// Where the container of this name is published.
    pub(crate) fn address_of(&self, name: &str) -> Option<SocketAddrV4> {
        self.address(container_owner(name)?.slot)
    }

    /// Where the container in this slot is published.
    pub(crate) fn address(&self, slot: Slot) -> Option<SocketAddrV4> {
        let [a, b] = self.addresses?;
        Some(if slot == Slot::A { a } else { b })
    }
}

/// What is stored of an environment: key, value, and the secret's name.
fn stored<'a>(
    operation: &Operation,
    env: &'a EnvVars,
) -> impl Iterator<Item = (&'a str, &'a Secret, String)> {
    let prefix = secret_prefix(operation.workload, operation.revision);
    let values = env.iter().enumerate().filter(|(_, (_, value))| !value.expose().is_empty());
    values.map(move |(number, (key, value))| (key.as_str(), value, format!("{prefix}{number}")))
}

fn known(known: bool) -> StepOutcome {
    if known { StepOutcome::Done } else { StepOutcome::Absent }
}

/// An operation that lacks what its steps need is not carried out; the next plan makes a complete
/// one.
fn missing(what: &str) -> StepFailure {
    StepFailure::Podman(ContainersError::NotFound(what.to_owned()))
}
