//! Disk limits: images are removed before it is full, and nothing new is pulled when it is.
//!
//! ```text
//!              document, snapshot ► References ─┐
//! Images::images ─► UnusedSince (unused, since when) ├─► one removal at a time ─► Images::remove_image
//! DiskSpace (statvfs) ─ above high? old enough? ┘        (ImageLeases: not while it is in use)
//!    │
//!    ├─► host status: a warning while a file system is above its high mark
//!    └─► pulls: refused below the floor, ended when they would cross it
//! ```
//!
//! A slow loop of its own, apart from the reconciler: a host without space keeps running what it
//! runs. Removed: unneeded images, after a day, or at once while the disk is above its high mark,
//! until it is below its low one. Never removed: what a deployment, its fallback or a restorable
//! revision needs; what a container uses; volumes; what somebody else built or loaded on the host.
//! Crash-only: nothing is persisted, and an interrupted removal is found again by the next round.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::durable;
use buddo_shared::model::image::ImageReference;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::container::LocalImage;
use crate::model::document::Document;
use crate::model::host_facts::HostFacts;
use crate::model::retries::Jitter;
use crate::model::snapshot::HostSnapshot;
use crate::ports::{ContainersError, Images};
use crate::process::disk_reserve::{Kept, Reserve};
use crate::process::disk_space::{DiskSpace, Space};
use crate::process::metrics::Metrics;
pub use image_gc::{References, Unused, UnusedSince};
pub use image_leases::{ImageLeases, Lease, Removal};

/// Between two rounds while all is well.
const CALM: Duration = Duration::from_mins(5);
/// Between two rounds while space is short.
const PRESSED: Duration = Duration::from_secs(30);
/// Minimum time between requested rounds.
const BREATH: Duration = Duration::from_secs(1);

const MIB: u64 = 1024 * 1024;

/// Collects images and watches disk space.
pub struct ImageGc<I> {
    pub images: Arc<I>,
    pub disk_space: DiskSpace,
    /// What operations work with.
    pub image_leases: ImageLeases,
    /// The document in force.
    pub document: watch::Receiver<Option<Arc<Document>>>,
    pub snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    pub facts: watch::Sender<HostFacts>,
    /// What was collected is counted.
    pub metrics: Metrics,
    /// Prevents all hosts from collecting at once.
    pub jitter: Jitter,
    /// The reserve on the agent's own disk.
    pub reserve: Reserve,
}

/// Whether a file system is short of space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressure {
    No,
    Yes,
}

impl<I: Images> ImageGc<I> {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut unused_since = UnusedSince::default();
        loop {
            self.round(&mut unused_since).await;
            let pressed = !self.facts.borrow().disk.is_empty();
            let pause = if pressed { PRESSED } else { CALM };
            let pause = pause.mul_f64(1.0 - (self.jitter)() / 5.0);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.disk_space.wanted() => {}
                () = self.reserve.was_let_go() => {}
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Collects what may be removed, then reports how full the host is.
    pub async fn round(&self, unused_since: &mut UnusedSince) {
        if self.disk_space.rules().collect
            && let Err(error) = self.collect(unused_since).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot collect images; retrying");
        }
        let warnings = self.warnings().await;
        self.facts.send_if_modified(|facts| {
            let news = facts.disk != warnings;
            facts.disk = warnings;
            news
        });
    }

    /// What is needed right now; `None` while unknown: then nothing may be removed.
    fn references(&self) -> Option<References> {
        let document = self.document.borrow().clone()?;
        let snapshot = self.snapshot.borrow().clone()?;
        // The snapshot of a pass before the document says nothing about what it asks for.
        let known = snapshot.host.document == Some(document.manifest().generation);
        known.then(|| References::of(&document, &snapshot))
    }

    async fn collect(&self, unused_since: &mut UnusedSince) -> Result<(), ContainersError> {
        let Some(references) = self.references() else { return Ok(()) };
        let images = self.images.images().await?;
        let rules = *self.disk_space.rules();
        let mut pressure = self.pressure(rules.high_percent).await;
        for unused in unused_since.unused(&images, &references, Instant::now()) {
            let old = unused.since.elapsed() >= rules.keep_unused;
            if !old && pressure == Pressure::No {
                // Sorted by age: all that follow are younger.
                break;
            }
            if self.remove(unused.image).await? && pressure == Pressure::Yes {
                pressure = self.pressure(rules.low_percent).await;
            }
        }
        Ok(())
    }

    /// Whether images lie on a file system that is fuller than `percent` or below the floor.
    async fn pressure(&self, percent: u8) -> Pressure {
        let rules = self.disk_space.rules();
        let full = |space: &Space| space.percent() > percent || space.free < rules.floor;
        let spaces = self.disk_space.of_images().await;
        if spaces.iter().any(|(_, space)| full(space)) { Pressure::Yes } else { Pressure::No }
    }

    /// Removes one image, unless it is needed by now. True if it is gone.
    async fn remove(&self, image: &LocalImage) -> Result<bool, ContainersError> {
        let ever = image.names.iter().chain(&image.former);
        let Some(_removal) = self.image_leases.take(ever) else { return Ok(false) };
        // The document may have changed since the list was made.
        if self.references().is_none_or(|references| references.need(image)) {
            return Ok(false);
        }
        let names: Vec<String> = image.names.iter().map(ImageReference::to_string).collect();
        match self.images.remove_image(image).await {
            Ok(()) => {
                tracing::info!(
                    id = image.id,
                    ?names,
                    bytes = image.bytes,
                    "an image was collected"
                );
                self.metrics.collected(image.bytes);
                Ok(true)
            }
            // Most likely someone else's container uses it by now; others may still be removed.
            Err(error @ (ContainersError::Refused { .. } | ContainersError::NotFound(_))) => {
                tracing::info!(id = image.id, ?names, reason = %error, "an image stays");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn warnings(&self) -> Vec<String> {
        let rules = self.disk_space.rules();
        let spaces = self.disk_space.of_all().await;
        self.metrics.disk(&spaces);
        // The agent's own comes last.
        let free = spaces.last().map_or(0, |(_, space)| space.free);
        let mut told: Vec<Space> = Vec::new();
        let mut warnings = Vec::new();
        for (place, space) in spaces {
            // Several places usually share one file system.
            if told.contains(&space) {
                continue;
            }
            told.push(space);
            let (place, percent) = (place.display(), space.percent());
            if space.free < rules.floor {
                warnings.push(format!(
                    "less than {} MiB are free on the disk of {place}: no image is pulled, running \
                     apps continue; free or add disk space",
                    rules.floor / MIB
                ));
            } else if percent > rules.high_percent {
                warnings.push(format!(
                    "the disk of {place} is {percent} % full and no removable image is left; \
                     free or add disk space"
                ));
            }
        }
        warnings.extend(self.keep_reserve(free).await);
        warnings
    }

    /// Maintains the reserve; returns a warning, if any.
    async fn keep_reserve(&self, free: u64) -> Option<String> {
        let reserve = self.reserve.clone();
        match durable::off_thread(move || reserve.keep(free)).await.flatten() {
            Ok(Kept::Whole) => None,
            Ok(Kept::Missing) => Some(self.reserve.warning()),
            Err(error) => Some(format!("{} ({error})", self.reserve.warning())),
        }
    }
}

mod image_gc;
mod image_leases;
#[cfg(test)]
mod tests;
