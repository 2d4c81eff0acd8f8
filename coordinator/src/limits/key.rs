//! Who a request is counted against.

use std::net::{IpAddr, Ipv6Addr};

use buddo_shared::model::id::AccountId;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Account(AccountId),
    /// An account on one endpoint: the route as the router has it, so that there are few.
    Endpoint(AccountId, Box<str>),
    /// The API keys of all teams whose deployments one account pays for, on one endpoint: a hundred
    /// keys do not get a hundred budgets.
    Keys(AccountId, Box<str>),
    /// An address; an IPv6 one stands for its /64, which is what one customer gets.
    Address(IpAddr),
    /// An IPv6 /48: what one site gets, and often one customer as well.
    Site(Ipv6Addr),
}

impl Key {
    /// The key of an address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(network(v6, 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// The site of an IPv6 key: a /48 holds 65,536 keys.
    pub fn site(&self) -> Option<Self> {
        match self {
            Self::Address(IpAddr::V6(v6)) => Some(Self::Site(network(*v6, 48))),
            _ => None,
        }
    }
}

fn network(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let host = u128::MAX.checked_shr(bits).unwrap_or_default();
    Ipv6Addr::from_bits(address.to_bits() & !host)
}

/// A site's quota as a multiple of a network's: enough for more than one neighbour, and far less
/// than the number of networks in it.
pub const SITE: u32 = 4;
