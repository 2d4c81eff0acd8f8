//! What hints were about.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names of containers that hints were about, until they are taken.
#[derive(Debug, Default)]
pub struct Named(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    names: BTreeSet<String>,
    /// There was a hint without a name, or there were too many.
    incomplete: bool,
}

impl Named {
    /// The most names kept: beyond this, a list costs less than asking about each.
    const MAX: usize = 1_000;

    /// A hint is about this container; call it before giving the hint. `None`: unknown.
    pub fn add(&self, name: Option<String>) {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match name.filter(|_| named.names.len() < Self::MAX) {
            Some(name) => drop(named.names.insert(name)),
            None => named.incomplete = true,
        }
    }

    /// What the hints since the last call were about. `None`: anything, also if a hint did not say
    /// what it is about.
    pub fn take(&self) -> Option<BTreeSet<String>> {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Names { names, incomplete } = std::mem::take(&mut *named);
        (!incomplete && !names.is_empty()).then_some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_names_collapse_and_an_unnamed_hint_means_all() {
        let named = Named::default();
        assert_eq!(named.take(), None, "a hint that named nothing");
        named.add(Some("a".to_owned()));
        named.add(Some("b".to_owned()));
        named.add(Some("a".to_owned()));
        assert_eq!(named.take(), Some(["a".to_owned(), "b".to_owned()].into()));
        named.add(Some("a".to_owned()));
        named.add(None);
        assert_eq!(named.take(), None);
        named.add(Some("a".to_owned()));
        assert!(named.take().is_some(), "that was then");
    }

    #[test]
    fn too_many_names_mean_all() {
        let named = Named::default();
        (0..=Named::MAX).for_each(|n| named.add(Some(n.to_string())));
        assert_eq!(named.0.lock().unwrap().names.len(), Named::MAX);
        assert_eq!(named.take(), None);
    }
}
