//! Chance, from a seed alone.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea, Flood 2014): small, fast in debug builds, the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The sequence of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of `0..end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// One of `0..1`.
    pub(crate) fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or_default();
        f64::from(bits) / f64::from(u32::MAX)
    }

    /// True with this chance in a thousand.
    pub(crate) fn per_mille(&mut self, chance: u64) -> bool {
        chance > 0 && self.below(1_000) < chance
    }

    /// From `low` to `high` milliseconds.
    pub(crate) fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high.saturating_sub(low) + 1))
    }

    /// One of `items`, where there is one.
    pub(crate) fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let end = u64::try_from(items.len()).unwrap_or_default();
        let index = usize::try_from(self.below(end)).unwrap_or_default();
        items.get(index).cloned()
    }
}
