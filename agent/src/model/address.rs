//! Loopback addresses of a workload's two slots: a base from the configuration plus its index.
//!
//! The last octet is never 0 or 255, which some programs take for a network or a broadcast.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::config::Network;
use crate::model::workload::Slot;

/// A workload's number on this host, from 0; reusable once the workload is gone.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Index(u16);

/// Usable last octets: 1 to 254.
const PER_BLOCK: u16 = 254;

impl Index {
    /// How many workloads one host can address.
    pub const COUNT: u16 = PER_BLOCK * 256 - 1;

    /// Takes a number below [`COUNT`](Self::COUNT).
    pub fn new(number: u16) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    pub fn get(self) -> u16 {
        self.0
    }

    /// The lowest index not in `taken`.
    pub fn lowest_free(taken: &std::collections::BTreeSet<Self>) -> Option<Self> {
        let gap = taken.iter().zip(0..).find(|(index, expected)| index.0 != *expected);
        let number = gap.map_or_else(|| u16::try_from(taken.len()).ok(), |(_, free)| Some(free));
        number.and_then(Self::new)
    }
}

impl Network {
    /// Where the container in `slot` of the workload with `index` is published.
    pub fn address(&self, index: Index, slot: Slot) -> SocketAddrV4 {
        let base = match slot {
            Slot::A => self.slot_a,
            Slot::B => self.slot_b,
        };
        let offset = u32::from(index.0 / PER_BLOCK) * 256 + u32::from(index.0 % PER_BLOCK) + 1;
        SocketAddrV4::new(Ipv4Addr::from_bits(base.to_bits().wrapping_add(offset)), self.app_port)
    }

    /// The index whose `slot` has this address: restores the indexes of a lost database.
    pub fn index_of(&self, address: Ipv4Addr, slot: Slot) -> Option<Index> {
        let base = match slot {
            Slot::A => self.slot_a,
            Slot::B => self.slot_b,
        };
        let offset = address.to_bits().checked_sub(base.to_bits())?;
        let block = u16::try_from(offset / 256).ok()?;
        let octet = u16::try_from(offset % 256).ok().filter(|o| (1..=PER_BLOCK).contains(o))?;
        block.checked_mul(PER_BLOCK)?.checked_add(octet - 1).and_then(Index::new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn network() -> Network {
        Network {
            slot_a: Ipv4Addr::new(127, 64, 0, 0),
            slot_b: Ipv4Addr::new(127, 96, 0, 0),
            special: Ipv4Addr::new(127, 63, 0, 1),
            app_port: 8000,
        }
    }

    proptest! {
        #[test]
        fn an_index_round_trips_through_its_address(number in 0..Index::COUNT, b in any::<bool>()) {
            let slot = if b { Slot::B } else { Slot::A };
            let index = Index::new(number).unwrap();
            let address = network().address(index, slot);
            prop_assert!(!matches!(address.ip().octets()[3], 0 | 255));
            prop_assert_eq!(network().index_of(*address.ip(), slot), Some(index));
            prop_assert_eq!(network().index_of(*address.ip(), slot.other()).is_some_and(|i| i == index), false);
        }
    }

    #[test]
    fn the_lowest_free_index_is_taken() {
        let set = |numbers: &[u16]| numbers.iter().map(|n| Index(*n)).collect::<BTreeSet<_>>();
        assert_eq!(Index::lowest_free(&set(&[])), Some(Index(0)));
        assert_eq!(Index::lowest_free(&set(&[0, 1, 2])), Some(Index(3)));
        assert_eq!(Index::lowest_free(&set(&[0, 2])), Some(Index(1)));
        assert_eq!(Index::lowest_free(&set(&[1])), Some(Index(0)));
        let all: BTreeSet<_> = (0..Index::COUNT).map(Index).collect();
        assert_eq!(Index::lowest_free(&all), None);
    }
}
