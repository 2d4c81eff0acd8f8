//! Podman through its REST API on a Unix socket.
//!
//! A thin client of our own, since the existing ones misspell `no_new_privileges`, quote secrets or
//! have no deadlines. One file per concern:
//!
//! ```text
//! impl Containers ──► containers · create · images · pull · secrets ──► transport ──► socket
//!                     events (its own connection, reconnects) ─────────────┤
//!                     service (ends its process when it hangs) ◄───────────┘
//!    image_policy ◄── create · pull        elements ◄── transport (lists of any size)
//!                     orphan_processes · forwarders (what the service no longer knows, by /proc)
//! impl MemoryEvents, Cgroups ► cgroup (the kernel's files, not the service)
//! ```
//!
//! Works with Podman 4.3 to 5.x: the libpod API under its 4.0.0 prefix, and the Docker-compatible
//! pull, the only one that reports how many bytes have arrived.

mod account_files;
mod cgroup;
mod containers;
mod create;
mod elements;
mod events;
mod forwarders;
mod image_policy;
mod images;
mod info;
mod lock_budget;
mod log_stream;
mod logs;
mod orphan_processes;
mod process;
mod pull;
mod refusal;
mod seccomp;
mod secrets;
mod service;
mod shortage;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use buddo_shared::host_wire::manifest::RegistryCredentials;
use buddo_shared::model::id::HostId;
use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::secret::Secret;
use tokio::sync::OnceCell;

pub use self::cgroup::CgroupFs;
pub use self::info::Info;
use self::lock_budget::LockBudget;
pub use self::pull::PullLimits;
use self::transport::Transport;
use crate::model::container::{Container, ContainerSpec, Created, ExitInfo, LocalImage, Mended};
use crate::model::workload::{Identity, Slot, WorkloadId};
use crate::ports::{Containers, ContainersError, Images};
use crate::process::disk_space::DiskSpace;
use crate::process::metrics::Metrics;

/// Entries of the last lists that exceed the size limits.
#[derive(Debug, Default)]
struct TooLarge {
    containers: ArcSwap<Vec<String>>,
    images: ArcSwap<Vec<String>>,
}

/// A client of one Podman API service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Podman {
    transport: Transport,
    host: HostId,
    pull_limits: PullLimits,
    disk_space: Option<DiskSpace>,
    lock_budget: LockBudget,
    seccomp: Option<PathBuf>,
    /// Why containers run without the agent's seccomp profile, for the host's administrator.
    unfiltered: Option<Arc<str>>,
    too_large: Arc<TooLarge>,
    graph_root: Arc<OnceCell<PathBuf>>,
}

impl Podman {
    /// Talks to the service at `socket`. Containers it creates carry the label `buddo.host` with
    /// `host`, for human readers; nothing depends on it.
    pub fn new(socket: PathBuf, host: HostId) -> Self {
        Self {
            transport: Transport::new(socket),
            host,
            pull_limits: PullLimits::default(),
            disk_space: None,
            lock_budget: LockBudget::default(),
            seccomp: None,
            unfiltered: None,
            too_large: Arc::default(),
            graph_root: Arc::default(),
        }
    }

    /// The same client, whose calls and pulls are counted.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { transport: self.transport.with_metrics(metrics), ..self }
    }

    /// The same client, which pulls only while there is room.
    #[must_use]
    pub fn with_disk_space(self, disk_space: DiskSpace) -> Self {
        Self { disk_space: Some(disk_space), ..self }
    }

    /// The same client, limited to this many containers of ours.
    #[must_use]
    pub fn with_max_containers(self, max: usize) -> Self {
        Self { lock_budget: LockBudget::new(max), ..self }
    }

    /// The same client, whose containers may not use kernel keys: the profile for that is written
    /// into `folder`. If it cannot be, Podman's own applies, and a warning says so.
    #[must_use]
    pub fn without_kernel_keys(self, folder: &Path) -> Self {
        match seccomp::write(folder) {
            Ok(path) => Self { seccomp: Some(path), unfiltered: None, ..self },
            Err(error) => {
                let warning = format!("containers may use the kernel's keys: {error}");
                tracing::warn!("{warning}");
                Self { seccomp: None, unfiltered: Some(warning.into()), ..self }
            }
        }
    }

    /// The same client with other bounds on pulls.
    #[must_use]
    pub fn with_pull_limits(self, pull_limits: PullLimits) -> Self {
        Self { pull_limits, ..self }
    }

    /// Ends the service if it uses more than `limit_kib` KiB of memory, so that systemd starts a
    /// fresh one; containers are unaffected. Returns whether it did.
    pub async fn end_if_larger(&self, limit_kib: u64) -> bool {
        self.transport.end_if_larger(limit_kib).await
    }
}

impl TooLarge {
    fn warnings(&self) -> Vec<String> {
        let containers = self.containers.load();
        let containers = containers.iter().map(|name| {
            format!(
                "Podman's record of the container {name} is far too large, most likely by the \
                 labels of its image; an app's is removed and its image refused, any \
                 other must be removed by hand"
            )
        });
        let images = self.images.load();
        let images = images.iter().map(|id| {
            format!("the image {id} has too many names to judge; remove it if it is not needed")
        });
        containers.chain(images).collect()
    }
}

impl Containers for Podman {
    async fn list(&self) -> Result<Vec<Container>, ContainersError> {
        let listed = containers::list(&self.transport).await?;
        self.lock_budget.counted(listed.containers.len());
        self.too_large.containers.store(Arc::new(listed.too_large));
        Ok(listed.containers)
    }

    fn warnings(&self) -> Vec<String> {
        let unfiltered = self.unfiltered.iter().map(ToString::to_string);
        unfiltered.chain(self.too_large.warnings()).collect()
    }

    async fn inspect(&self, name: &str) -> Result<Option<Container>, ContainersError> {
        containers::find(&self.transport, name).await
    }

    async fn image(&self, image: &ImageReference) -> Result<Option<Digest>, ContainersError> {
        let found = images::inspect(&self.transport, image).await?;
        // Podman treats images with the same bytes as one, and keeps the annotations of the last
        // pull: pulling restores this image's annotations, and checks them.
        let found = found.filter(|found| image_policy::check(image, found).is_ok());
        Ok(found.and_then(|found| found.registry_digest(image)))
    }

    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<Digest, ContainersError> {
        let (limits, disk_space) = (&self.pull_limits, self.disk_space.as_ref());
        let pulled =
            pull::pull(&self.transport, limits, disk_space, image, credentials, progress).await;
        self.transport.metrics().pulled(pulled.is_ok());
        pulled
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainersError> {
        self.lock_budget.look(&self.transport).await?;
        self.lock_budget.admit()?;
        let created =
            create::create(&self.transport, self.host, self.seccomp.as_deref(), spec).await?;
        if created == Created::New {
            self.lock_budget.one_more();
        }
        Ok(created)
    }

    async fn start(&self, name: &str) -> Result<(), ContainersError> {
        containers::start(&self.transport, name).await
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<bool, ContainersError> {
        containers::stop(&self.transport, name, grace).await
    }

    async fn remove(&self, name: &str) -> Result<bool, ContainersError> {
        let known = containers::remove(&self.transport, name).await?;
        if known {
            self.lock_budget.one_less();
        }
        Ok(known)
    }

    async fn orphans(&self) -> Result<Vec<Identity>, ContainersError> {
        let root = self.graph_root().await.map_err(|source| ContainersError::Unavailable {
            operation: "ask where Podman's storage is",
            source: Box::new(source),
        })?;
        orphan_processes::list(&self.transport, root).await
    }

    async fn end_orphans(
        &self,
        workload: WorkloadId,
        slot: Slot,
        grace: Duration,
    ) -> Result<(), ContainersError> {
        orphan_processes::end(&self.transport, workload, slot, grace).await
    }

    async fn free_address(&self, address: SocketAddrV4) -> Result<(), ContainersError> {
        forwarders::end(address).await
    }

    async fn inspect_exit(&self, name: &str) -> Result<ExitInfo, ContainersError> {
        containers::inspect_exit(&self.transport, name).await
    }

    async fn secrets(&self) -> Result<Vec<String>, ContainersError> {
        secrets::list(&self.transport).await
    }

    async fn put_secret(&self, name: &str, value: &Secret) -> Result<(), ContainersError> {
        secrets::put(&self.transport, name, value).await
    }

    async fn remove_secret(&self, name: &str) -> Result<(), ContainersError> {
        secrets::remove(&self.transport, name).await
    }

    async fn mend_secrets(&self) -> io::Result<Mended> {
        secrets::mend(self.graph_root().await?).await
    }
}

impl Podman {
    /// Podman's storage root; asked once.
    async fn graph_root(&self) -> io::Result<&Path> {
        let asked = self.graph_root.get_or_try_init(async || {
            let root = self.info().await.map_err(io::Error::other)?.graph_root;
            root.ok_or_else(|| io::Error::other("Podman does not say where its storage is"))
        });
        asked.await.map(PathBuf::as_path)
    }
}

impl Images for Podman {
    async fn images(&self) -> Result<Vec<LocalImage>, ContainersError> {
        let listed = images::list(&self.transport).await?;
        self.too_large.images.store(Arc::new(listed.too_large));
        Ok(listed.images)
    }

    async fn remove_image(&self, image: &LocalImage) -> Result<(), ContainersError> {
        images::remove(&self.transport, image).await
    }
}
