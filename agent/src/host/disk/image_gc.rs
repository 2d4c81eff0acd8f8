//! Which images are not needed, oldest first. Pure.
//!
//! An image is needed, by its digest or its tag, while the document names it (as what a deployment
//! runs, as what auto rollback would fall back to, or as a revision that can be restored) or while
//! any container uses it, even a stopped one. How long it has been unneeded is known only from this
//! agent's own passes: the date that Podman shows is the build date. After a restart all ages start
//! over, which errs on the side of keeping.

use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::model::image::{Digest, ImageReference};
use tokio::time::Instant;

use crate::model::container::LocalImage;
use crate::model::document::Document;
use crate::model::snapshot::HostSnapshot;

/// What the host needs images for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    digests: BTreeSet<Digest>,
    /// Full tags: of revisions whose digest may not be known yet.
    tags: BTreeSet<String>,
}

impl References {
    /// What the document asks for, plus what tags were resolved to here.
    pub fn of(document: &Document, snapshot: &HostSnapshot) -> Self {
        let mut references = Self::default();
        for desired in document.entries().values() {
            let before = desired
                .auto_rollback
                .iter()
                .flat_map(|auto_rollback| &auto_rollback.fallback.services);
            for service in desired.services.iter().chain(before) {
                references.image(&service.image, service.digest.as_ref());
            }
            for kept in &desired.kept_images {
                references.image(kept, None);
            }
        }
        let services = snapshot.deployments.iter().flat_map(|app| &app.status.services);
        references.digests.extend(services.filter_map(|service| service.digest.clone()));
        references
    }

    fn image(&mut self, image: &ImageReference, digest: Option<&Digest>) {
        match digest.or(image.digest()) {
            Some(digest) => drop(self.digests.insert(digest.clone())),
            None => drop(self.tags.insert(image.to_string())),
        }
    }

    /// Whether `image` must stay.
    pub fn need(&self, image: &LocalImage) -> bool {
        image.in_use
            || image.digest.as_ref().is_some_and(|digest| self.digests.contains(digest))
            || image.names.iter().any(|name| match name.digest() {
                Some(digest) => self.digests.contains(digest),
                None => self.tags.contains(&name.to_string()),
            })
    }
}

/// Whether the agent may judge this image at all. Everything the agent ever stores comes from a
/// registry, so an image that never had a registry name was built or loaded here by somebody, and
/// stays. One that has lost its name to another image is judged by its former names, and only if
/// its digest is known: nothing else would show that it is needed.
fn is_ours(image: &LocalImage) -> bool {
    let mut ever = image.names.iter().chain(&image.former);
    let known = !image.names.is_empty() || (!image.former.is_empty() && image.digest.is_some());
    !image.foreign && known && ever.all(|name| name.registry() != "localhost")
}

/// Since when each image has been unneeded.
#[derive(Debug, Clone, Default)]
pub struct UnusedSince {
    unused: BTreeMap<String, Instant>,
}

/// An image that may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused<'a> {
    pub image: &'a LocalImage,
    /// Since when it has been unneeded, as far as this agent saw.
    pub since: Instant,
}

impl UnusedSince {
    /// Removal candidates: longest unused first, then largest first.
    pub fn unused<'a>(
        &mut self,
        images: &'a [LocalImage],
        needed: &References,
        now: Instant,
    ) -> Vec<Unused<'a>> {
        let idle: Vec<&LocalImage> =
            images.iter().filter(|image| is_ours(image) && !needed.need(image)).collect();
        let before = std::mem::take(&mut self.unused);
        self.unused = idle
            .iter()
            .map(|image| (image.id.clone(), before.get(&image.id).copied().unwrap_or(now)))
            .collect();
        let mut unused: Vec<Unused<'a>> = idle
            .into_iter()
            .map(|image| Unused {
                image,
                since: self.unused.get(&image.id).copied().unwrap_or(now),
            })
            .collect();
        unused.sort_by(|a, b| {
            let size = b.image.bytes.cmp(&a.image.bytes);
            a.since.cmp(&b.since).then(size).then_with(|| a.image.id.cmp(&b.image.id))
        });
        unused
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    pub(super) fn digest(hex: char) -> Digest {
        Digest::parse(&format!("sha256:{}", hex.to_string().repeat(64))).unwrap()
    }

    fn image(id: &str, names: &[&str], bytes: u64) -> LocalImage {
        LocalImage {
            id: id.to_owned(),
            names: names.iter().map(|name| ImageReference::parse(name).unwrap()).collect(),
            former: Vec::new(),
            digest: None,
            foreign: false,
            bytes,
            in_use: false,
        }
    }

    fn pinned(hex: char) -> String {
        format!("ghcr.io/a/b@{}", digest(hex))
    }

    #[test]
    fn the_longest_unused_image_goes_first_and_needed_ones_never() {
        let mut unused_since = UnusedSince::default();
        let begin = Instant::now();
        let old = image("old", &[&pinned('a')], 1);
        let used = LocalImage { in_use: true, ..image("used", &[&pinned('b')], 1) };
        let needed = image("needed", &["docker.io/x/y:1", &pinned('c')], 1);
        let tagged = image("tagged", &["ghcr.io/a/b:v9", &pinned('d')], 1);
        let references = References {
            digests: [digest('c')].into(),
            tags: ["ghcr.io/a/b:v9".to_owned()].into(),
        };
        let first = [old.clone(), used.clone(), needed.clone(), tagged.clone()];
        let unused = unused_since.unused(&first, &references, begin);
        assert_eq!(unused.iter().map(|u| &*u.image.id).collect::<Vec<_>>(), ["old"]);
        let later = begin + Duration::from_secs(9);
        let [big, small] = [image("big", &[&pinned('e')], 9), image("small", &[&pinned('f')], 2)];
        let second = [small, big, old.clone(), used, needed, tagged];
        let unused = unused_since.unused(&second, &references, later);
        let order: Vec<_> = unused.iter().map(|u| (&*u.image.id, u.since)).collect();
        assert_eq!(order, [("old", begin), ("big", later), ("small", later)]);
        // Needed again for a while, its age starts over.
        unused_since.unused(&[], &references, later);
        assert_eq!(unused_since.unused(&[old], &references, later)[0].since, later);
    }

    #[test]
    fn locally_built_or_loaded_images_are_left_alone() {
        let built = image("built", &["localhost/tool:1"], 1);
        let both = image("both", &["localhost/tool:1", &pinned('a')], 1);
        let nameless = image("nameless", &[], 1);
        let strange = LocalImage { foreign: true, ..image("strange", &[&pinned('a')], 1) };
        let images = [built, both, nameless, strange];
        let mut unused_since = UnusedSince::default();
        assert!(unused_since.unused(&images, &References::default(), Instant::now()).is_empty());
    }

    /// Its tag has moved to another image.
    fn nameless(id: &str, former: &str, hex: char) -> LocalImage {
        LocalImage {
            former: vec![ImageReference::parse(former).unwrap()],
            digest: Some(digest(hex)),
            ..image(id, &[], 1)
        }
    }

    #[test]
    fn fm_33_an_image_whose_tag_has_moved_is_removed_once_unneeded() {
        let web = "ghcr.io/a/web:latest";
        let left = nameless("left", web, 'a');
        let kept = nameless("kept", web, 'b');
        let used = LocalImage { in_use: true, ..nameless("used", web, 'c') };
        let built = nameless("built", "localhost/tool:1", 'd');
        let unknown = LocalImage { digest: None, ..nameless("unknown", web, 'e') };
        let never_named = LocalImage { former: Vec::new(), ..nameless("never", web, 'f') };
        let images = [left, kept, used, built, unknown, never_named];
        let references = References {
            digests: [digest('b')].into(),
            // It means another image now.
            tags: [web.to_owned()].into(),
        };
        let mut unused_since = UnusedSince::default();
        let unused = unused_since.unused(&images, &references, Instant::now());
        assert_eq!(unused.iter().map(|u| &*u.image.id).collect::<Vec<_>>(), ["left"]);
    }

    proptest! {
        /// Whatever exists and whatever is needed: nothing needed is ever listed, and everything of
        /// ours that is not needed is.
        #[test]
        fn exactly_the_unneeded_images_are_listed(
            there in proptest::collection::vec((0_u8..16, any::<bool>(), any::<bool>()), 0..40),
            needed in proptest::collection::btree_set(0_u8..16, 0..16),
        ) {
            let hex = |n: u8| char::from_digit(u32::from(n), 16).unwrap();
            let images: Vec<LocalImage> = there
                .iter()
                .enumerate()
                .map(|(id, (n, in_use, foreign))| LocalImage {
                    in_use: *in_use,
                    foreign: *foreign,
                    ..image(&id.to_string(), &[&pinned(hex(*n))], u64::from(*n))
                })
                .collect();
            let references = References {
                digests: needed.iter().map(|n| digest(hex(*n))).collect(),
                tags: BTreeSet::new(),
            };
            let mut unused_since = UnusedSince::default();
            let unused = unused_since.unused(&images, &references, Instant::now());
            let listed: BTreeSet<&str> = unused.iter().map(|u| &*u.image.id).collect();
            for (image, (n, in_use, foreign)) in images.iter().zip(&there) {
                let may_go = !in_use && !foreign && !needed.contains(n);
                prop_assert_eq!(listed.contains(&*image.id), may_go);
            }
        }
    }
}
