//! Cached reads, so that frequent identical queries cost no transaction.
//!
//! An entry is valid until the next write, and for at most [`LIFE`], because an administrator's
//! command writes from another process.
//!
//! ```text
//! version ─► read ─► put(key, version, value)          commit ─► version + 1 ─► answer to the writer
//!    └────────────► get(key, version): the same version, and young
//! ```
//!
//! The version is taken before the read, and rises before the writer is told of its commit: nobody
//! who knows of a change is shown the previous state.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long another process's change may go unnoticed.
pub const LIFE: Duration = Duration::from_secs(1);
/// Maximum entries; at one more, all are dropped.
const MOST: usize = 10_000;

/// The state of the database in which a value was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub(super) u64);

#[derive(Debug)]
struct Entry<V> {
    version: Version,
    read_at: Instant,
    value: V,
}

/// Recently read values.
#[derive(Debug)]
pub struct Cache<K, V>(Mutex<HashMap<K, Entry<V>>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// The value, if it was read in this version and recently.
    pub fn get(&self, key: &K, version: Version) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(key)?;
        let holds = entry.version == version && entry.read_at.elapsed() < LIFE;
        holds.then(|| entry.value.clone())
    }

    /// Stores what was read in `version`, which the caller took before the read.
    pub fn put(&self, key: K, version: Version, value: V) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.clear();
        }
        entries.insert(key, Entry { version, read_at: Instant::now(), value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_counts_in_its_version_and_while_it_is_young() {
        let memo = Cache::default();
        memo.put("key", Version(1), 7);
        assert_eq!(memo.get(&"key", Version(1)), Some(7));
        assert_eq!(memo.get(&"key", Version(2)), None);
        assert_eq!(memo.get(&"other", Version(1)), None);
        tokio::time::advance(LIFE).await;
        assert_eq!(memo.get(&"key", Version(1)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let memo = Cache::default();
        for key in 0..3 * MOST {
            memo.put(key, Version(1), ());
        }
        assert!(memo.0.lock().unwrap().len() <= MOST);
    }
}
