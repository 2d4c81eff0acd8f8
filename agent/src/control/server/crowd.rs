//! Handshakes under way. Anybody can begin one and say nothing, so a slot is worth little: a
//! newcomer takes the slot of the longest holder, and peers that have proven themselves have slots
//! that no stranger takes.
//!
//! ```text
//! connection ─► proven before? ─ yes ─► 16 slots for such addresses
//!                    └ no ─► 8 slots for each address, 64 for all ─► the oldest is ended for it
//! ```
//!
//! An honest handshake takes two round trips. To keep it out, strangers would have to begin 64 new
//! ones from 8 addresses in that time, again and again, and once it has succeeded not even that
//! helps.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Concurrent handshakes of strangers.
pub(super) const MAX_STRANGERS: usize = 64;
/// Of these, from one address.
const MAX_OF_ADDRESS: usize = 8;
/// Concurrent handshakes of addresses that were let in before.
pub(super) const MAX_PROVEN: usize = 16;
/// How many addresses are remembered as proven; a coordinator has one or two.
const REMEMBERED: usize = 8;
/// For how long after they were last let in.
const PROVEN_FOR: Duration = Duration::from_hours(24);

/// All handshakes of one listener. Clones share all state.
#[derive(Debug, Clone, Default)]
pub(super) struct Handshakes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    number: u64,
    under_way: VecDeque<UnderWay>,
    /// Let in longest ago first.
    proven: VecDeque<(IpAddr, Instant)>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    from: IpAddr,
    proven: bool,
    ended: CancellationToken,
}

/// A slot, as long as it is held.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Handshakes,
    number: u64,
    from: IpAddr,
    ended: CancellationToken,
}

impl Handshakes {
    /// Gives a slot to a newcomer; another's may end for it.
    pub(super) fn begin(&self, peer: IpAddr, now: Instant) -> Handshake {
        let from = network_of(peer);
        let mut state = self.state();
        state.proven.retain(|(_, at)| now.duration_since(*at) < PROVEN_FOR);
        let proven = state.proven.iter().any(|(address, _)| *address == from);
        let (all, own) =
            if proven { (MAX_PROVEN, MAX_PROVEN) } else { (MAX_STRANGERS, MAX_OF_ADDRESS) };
        state.make_room(own, |one| one.proven == proven && one.from == from);
        state.make_room(all, |one| one.proven == proven);
        state.number += 1;
        let (number, ended) = (state.number, CancellationToken::new());
        state.under_way.push_back(UnderWay { number, from, proven, ended: ended.clone() });
        Handshake { all: self.clone(), number, from, ended }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the oldest of these if one more would be too many.
    fn make_room(&mut self, most: usize, of: impl Fn(&UnderWay) -> bool) {
        let count = self.under_way.iter().filter(|one| of(one)).count();
        let oldest = self.under_way.iter().position(&of).filter(|_| count >= most);
        if let Some(oldest) = oldest.and_then(|oldest| self.under_way.remove(oldest)) {
            oldest.ended.cancel();
        }
    }
}

impl Handshake {
    /// Ready when the slot is given to another.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The peer has shown who it is.
    pub(super) fn succeeded(self, now: Instant) {
        let mut state = self.all.state();
        state.proven.retain(|(address, _)| *address != self.from);
        state.proven.push_back((self.from, now));
        let excess = state.proven.len().saturating_sub(REMEMBERED);
        state.proven.drain(..excess);
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.state().under_way.retain(|one| one.number != self.number);
    }
}

/// What one customer of a network usually has: one IPv4 address, or a /64 of IPv6.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        version_4 @ IpAddr::V4(_) => version_4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn ended(one: &Handshake) -> bool {
        one.ended.is_cancelled()
    }

    #[test]
    fn an_address_over_its_share_evicts_only_its_own_oldest_handshakes() {
        let (all, now) = (Handshakes::default(), Instant::now());
        let other = all.begin(address(1), now);
        let many: Vec<_> = (0..MAX_OF_ADDRESS + 3).map(|_| all.begin(address(2), now)).collect();
        let left: Vec<_> = many.iter().map(ended).collect();
        assert!(left[..3].iter().all(|ended| *ended) && !left[3..].contains(&true), "{left:?}");
        assert!(!ended(&other));
        drop(many);
        let again: Vec<_> = (0..MAX_OF_ADDRESS).map(|_| all.begin(address(2), now)).collect();
        assert!(!again.iter().any(ended), "places that were given back are free");
    }

    #[test]
    fn an_ipv6_slash_64_counts_as_one_address() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2:3::4"), of("2001:db8:1:3:3::4"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }

    #[test]
    fn proven_addresses_expire_and_are_bounded() {
        let (all, now) = (Handshakes::default(), Instant::now());
        let proven = |n, now| {
            let one = all.begin(address(n), now);
            all.state().under_way.iter().any(|u| u.number == one.number && u.proven)
        };
        all.begin(address(1), now).succeeded(now);
        assert!(proven(1, now) && !proven(2, now));
        assert!(!proven(1, now + PROVEN_FOR));
        all.begin(address(1), now).succeeded(now);
        (10..10 + u32::try_from(REMEMBERED).unwrap())
            .for_each(|n| all.begin(address(n), now).succeeded(now));
        assert!(!proven(1, now));
        assert_eq!(all.state().under_way.len(), 0);
    }

    proptest! {
        /// However strangers behave, there are never too many, and the newest and any proven peer
        /// stay.
        #[test]
        fn fm_61_strangers_never_evict_the_handshake_of_a_proven_peer(
            strangers in proptest::collection::vec((2_u32..200, any::<bool>()), 0..400),
        ) {
            let (all, now) = (Handshakes::default(), Instant::now());
            all.begin(address(1), now).succeeded(now);
            let coordinator = all.begin(address(1), now);
            let mut held = VecDeque::new();
            for (n, leaves) in strangers {
                held.push_back(all.begin(address(n), now));
                prop_assert!(!ended(&coordinator));
                prop_assert!(held.back().is_some_and(|newest| !ended(newest)));
                prop_assert!(all.state().under_way.len() <= MAX_STRANGERS + 1);
                if leaves {
                    held.pop_front();
                }
            }
        }
    }
}
