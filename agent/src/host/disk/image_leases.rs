//! Keeps operations and image GC apart: while an operation works with an image, from the check
//! whether it is here until a container uses it, the image stays; while one is being removed, an
//! operation that wants it waits.
//!
//! The unit is the repository, not the image: what a tag means is only known after its pull.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_shared::model::image::ImageReference;
use tokio::sync::Notify;

/// A repository of a registry.
type Repository = (String, String);

fn repository(image: &ImageReference) -> Repository {
    (image.registry().to_owned(), image.repository().to_owned())
}

#[derive(Debug, Default)]
struct Taken {
    /// How many operations work with an image of it.
    leased: BTreeMap<Repository, usize>,
    /// What the GC is removing.
    going: BTreeSet<Repository>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<Taken>,
    gone: Notify,
}

/// Who works with which images. Clones share all state.
#[derive(Debug, Clone, Default)]
pub struct ImageLeases(Arc<Shared>);

impl ImageLeases {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Every change is atomic, so a panic elsewhere does not corrupt it.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps images of the repository until the lease is dropped. Waits for a removal already under
    /// way, which has a deadline.
    pub async fn lease(&self, image: &ImageReference) -> Lease {
        let repository = repository(image);
        loop {
            // Before the check, so that a removal cannot end unnoticed in between.
            let gone = self.0.gone.notified();
            {
                let mut taken = self.taken();
                if !taken.going.contains(&repository) {
                    *taken.leased.entry(repository.clone()).or_default() += 1;
                    return Lease { image_leases: self.clone(), repository };
                }
            }
            gone.await;
        }
    }

    /// Reserves an image for removal, under all names that it has or had: an operation may want it
    /// by its digest. `None` while one works with it.
    pub fn take<'a>(&self, names: impl IntoIterator<Item = &'a ImageReference>) -> Option<Removal> {
        let repositories: BTreeSet<Repository> = names.into_iter().map(repository).collect();
        let mut taken = self.taken();
        if repositories.iter().any(|r| taken.leased.contains_key(r) || taken.going.contains(r)) {
            return None;
        }
        taken.going.extend(repositories.iter().cloned());
        Some(Removal { image_leases: self.clone(), repositories })
    }
}

/// While it lives, images of its repository stay.
#[derive(Debug)]
pub struct Lease {
    image_leases: ImageLeases,
    repository: Repository,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.image_leases.taken();
        if let Some(count) = taken.leased.get_mut(&self.repository) {
            *count -= 1;
            if *count == 0 {
                taken.leased.remove(&self.repository);
            }
        }
    }
}

/// While it lives, no operation begins to work with images of its repositories.
#[derive(Debug)]
pub struct Removal {
    image_leases: ImageLeases,
    repositories: BTreeSet<Repository>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.image_leases
            .taken()
            .going
            .retain(|repository| !self.repositories.contains(repository));
        self.image_leases.0.gone.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageReference {
        ImageReference::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_leased_image_is_not_removed_and_a_lease_waits_for_a_removal() {
        let image_leases = ImageLeases::default();
        let (web, other) = (image("ghcr.io/a/web:1"), image("ghcr.io/a/other:1"));
        let (first, second) =
            (image_leases.lease(&web).await, image_leases.lease(&image("ghcr.io/a/web:2")).await);
        drop(first);
        assert!(image_leases.take([&web]).is_none(), "one operation still works with it");
        drop(second);
        let removal = image_leases.take([&other, &web]).unwrap();
        assert!(image_leases.take([&other]).is_none());
        let waiting = tokio::spawn({
            let (image_leases, web) = (image_leases.clone(), web.clone());
            async move { image_leases.lease(&web).await }
        });
        // The waiting task has checked by now: the runtime has one thread.
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(removal);
        let lease = waiting.await.unwrap();
        assert!(image_leases.take([&web]).is_none());
        drop(lease);
        assert!(image_leases.take([&web]).is_some());
    }
}
