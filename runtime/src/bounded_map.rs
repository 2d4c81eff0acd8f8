//! A map of bounded size that drops what has been touched longest ago.
//!
//! Entries are in two generations. Touching one moves it to the young generation; once that holds
//! half the capacity, it becomes the old one, and the old one before it is dropped. So an entry is
//! dropped only after at least half the capacity of others have been touched since, and nothing is
//! paid for that per request: no list to relink, no task, no clock.
//!
//! Not `moka`: its admission policy may drop a new entry in favour of an older one, which would
//! forget whoever has just begun to guess; its entries expire by a clock that callers cannot supply;
//! and it evicts later, when it finds time, so that its size is not a bound.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> BoundedMap<K, V> {
    /// Holds at most `capacity` entries, of which at least the half touched last.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    /// The value of `key`, which counts as touched; a default one if it has none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.make_room();
        let known = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| known.unwrap_or_default())
    }

    /// Sets the value of `key`, which counts as touched.
    pub fn insert(&mut self, key: K, value: V) {
        self.make_room();
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// The value of `key`, without touching it.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The value of `key`, without touching it.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }

    /// Removes `key`.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // At most one of the two holds it.
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Drops what has not been touched since the last call, or since the map was last half full.
    pub fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the next touch makes the map [`age`](Self::age).
    pub fn is_half_full(&self) -> bool {
        self.young.len() >= self.capacity.div_ceil(2)
    }

    fn make_room(&mut self) {
        if self.is_half_full() {
            self.age();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_capacity_and_keeps_what_is_used() {
        let mut map = BoundedMap::new(100);
        for key in 0..10_000 {
            map.insert(key, ());
            if key % 25 == 0 {
                map.insert(-1, ());
            }
            assert!(map.len() <= 100, "{}", map.len());
        }
        assert!(map.get(&-1).is_some());
        assert!((9_960..10_000).all(|key| map.get(&key).is_some()), "the latest are kept");
        assert!(map.get(&0).is_none());
    }

    #[test]
    fn a_value_survives_its_move_to_the_young() {
        let mut map = BoundedMap::new(4);
        *map.entry("a") += 7;
        map.age();
        assert_eq!(*map.entry("a"), 7);
        assert_eq!(map.len(), 1, "it is in one generation");
        map.age();
        *map.get_mut("a").unwrap() = 8;
        assert_eq!(map.get("a"), Some(&8));
        map.insert("a", 9);
        assert_eq!(map.remove("a"), Some(9));
        assert!(map.is_empty());
    }

    #[test]
    fn what_is_not_touched_between_two_ages_is_dropped() {
        let mut map = BoundedMap::new(100);
        *map.entry("idle") = 1;
        *map.entry("used") = 2;
        map.age();
        *map.entry("used") += 1;
        map.age();
        assert_eq!((map.get("idle"), map.get("used")), (None, Some(&3)));
    }
}
