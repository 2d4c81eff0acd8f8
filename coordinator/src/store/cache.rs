//! Cached reads, so that frequent identical queries cost no transaction.
//!
//! An entry is valid as long as the database is in the state in which it was read, whoever changes
//! it: an administrator's command writes from another process.
//!
//! ```text
//! version ─► read ─► put(key, version, value)       any commit ─► another version ─► its writer is told
//!    └────────────► get(key, version): the same version
//! ```
//!
//! The database is asked for its version before the read and before each use, and gives another one
//! before a writer is told of its commit: nobody who knows of a change is shown the previous state.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Maximum entries; at one more, all are dropped.
const MOST: usize = 10_000;

/// The state of the database in which a value was read. Not `PartialEq`: see [`Version::is`].
#[derive(Debug, Clone, Copy)]
pub struct Version(Option<(u64, i64)>);

impl Version {
    /// Both numbers together name a state: a backend may count its own commits in one, and take the
    /// other from the database.
    pub(super) fn new(own: u64, of_database: i64) -> Self {
        Self(Some((own, of_database)))
    }

    /// The database did not say. Nothing is cached then.
    pub(super) fn unknown() -> Self {
        Self(None)
    }

    /// Whether both are the same known state.
    fn is(self, other: Self) -> bool {
        self.0.is_some() && self.0 == other.0
    }
}

/// Recently read values.
#[derive(Debug)]
pub struct Cache<K, V>(Mutex<HashMap<K, (Version, V)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// The value, if it was read in this version.
    pub fn get(&self, key: &K, version: Version) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_in, value) = entries.get(key)?;
        version.is(*read_in).then(|| value.clone())
    }

    /// Stores what was read in `version`, which the caller took before the read.
    pub fn put(&self, key: K, version: Version, value: V) {
        if version.0.is_none() {
            return;
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.clear();
        }
        entries.insert(key, (version, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_its_version_alone() {
        let cache = Cache::default();
        cache.put("key", Version::new(1, 1), 7);
        assert_eq!(cache.get(&"key", Version::new(1, 1)), Some(7));
        assert_eq!(cache.get(&"key", Version::new(2, 1)), None, "a commit of this process");
        assert_eq!(cache.get(&"key", Version::new(1, 2)), None, "a commit of another one");
        assert_eq!(cache.get(&"other", Version::new(1, 1)), None);
    }

    #[test]
    fn nothing_is_cached_while_the_version_is_unknown() {
        let cache = Cache::default();
        cache.put("key", Version::unknown(), 7);
        assert_eq!(cache.get(&"key", Version::unknown()), None);
        cache.put("key", Version::new(1, 1), 7);
        assert_eq!(cache.get(&"key", Version::unknown()), None);
    }

    #[test]
    fn memory_is_bounded() {
        let cache = Cache::default();
        for key in 0..3 * MOST {
            cache.put(key, Version::new(1, 1), ());
        }
        assert!(cache.0.lock().unwrap().len() <= MOST);
    }
}
