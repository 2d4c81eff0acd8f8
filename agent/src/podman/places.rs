//! A budget of containers: Podman has a lock for each container, pod and volume, 2,048 in all by
//! default, and once they are used up nothing can be created or even replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buddo_shared::report::Failure;

use crate::ports::ContainersError;

/// How many containers of ours there may be, and how many there are. Clones share all.
#[derive(Debug, Clone)]
pub(super) struct Places {
    max: usize,
    /// As the last list said, and one more for each that was created since.
    known: Arc<AtomicUsize>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: Arc::default() }
    }

    /// There are so many.
    pub(super) fn counted(&self, containers: usize) {
        self.known.store(containers, Ordering::Relaxed);
    }

    /// There is one more.
    pub(super) fn one_more(&self) {
        self.known.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses when all are taken.
    pub(super) fn admit(&self) -> Result<(), ContainersError> {
        let known = self.known.load(Ordering::Relaxed);
        if known < self.max { Ok(()) } else { Err(ContainersError::Full(none_left(known))) }
    }
}

/// There is no place for another container, in words.
fn none_left(known: usize) -> Failure {
    Failure {
        code: "too_many_containers".to_owned(),
        cause: format!("too many containers on this host: {known}, as many as it may have"),
        fix: "it is tried again by itself; the host's administrator may raise \
              `max_containers` together with Podman's `num_locks`, or move apps elsewhere"
            .to_owned(),
    }
}

/// Podman's own refusal for want of a lock, if `message` is one.
pub(super) fn no_lock_left(message: &str) -> Option<ContainersError> {
    let told = message.contains("exceeded num_locks") || message.contains("allocating lock");
    told.then(|| {
        ContainersError::Full(Failure {
            code: "too_many_containers".to_owned(),
            cause: "too many containers on this host: Podman has no lock left for another"
                .to_owned(),
            fix: "it is tried again by itself; the host's administrator must remove containers, \
                  pods or volumes, or raise Podman's `num_locks`"
                .to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm_25_beyond_the_budget_nothing_is_created_and_the_list_has_the_last_word() {
        let places = Places::new(3);
        places.counted(2);
        places.admit().unwrap();
        places.one_more();
        let ContainersError::Full(failure) = places.admit().unwrap_err() else { panic!() };
        assert_eq!(failure.code, "too_many_containers");
        assert!(failure.cause.starts_with("too many containers on this host"), "{failure:?}");
        places.counted(2);
        places.admit().unwrap();
    }

    #[test]
    fn fm_25_podmans_own_refusal_is_told_as_what_it_is() {
        // Podman 4.3.1's words.
        let words = "allocating lock for new container: allocation failed; exceeded num_locks (32)";
        assert!(matches!(no_lock_left(words), Some(ContainersError::Full(_))));
        assert!(no_lock_left("creating container storage: no such image").is_none());
    }
}
