//! Where the requests of each name go.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use smallvec::SmallVec;

/// How long Caddy caches an answer of the resolver. Every change of the live slot takes this long
/// to reach visitors; asking this often costs no measurable throughput (decision 0003).
pub const EDGE_REFRESH: Duration = Duration::from_millis(20);

/// Where each name is served: what the resolver process serves to Caddy. Replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct LiveTable {
    /// The zone's name, such as `buddocloud.com`.
    pub zone: String,
    /// Subdomain → where its requests go.
    pub apps: BTreeMap<String, Target>,
    /// Operators' own host names that may have certificates → the subdomain they show.
    pub domains: BTreeMap<String, String>,
}

/// As many as most apps have need no memory of their own: every plan of a workload makes one.
pub type Addresses = SmallVec<[Ipv4Addr; 4]>;

/// Where the requests of one name go.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Target {
    /// To these addresses, all on the one app port.
    Live {
        /// The live slots' addresses.
        #[serde(with = "list")]
        addresses: Addresses,
    },
    /// Held until something is live.
    Hold,
    /// To the page that says the app is stopped.
    Stopped,
    /// To the page that says the app is suspended.
    Suspended,
}

/// [`Addresses`] in JSON.
mod list {
    use std::net::Ipv4Addr;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Addresses;

    pub(super) fn serialize<S: Serializer>(all: &Addresses, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Addresses, D::Error> {
        Vec::<Ipv4Addr>::deserialize(from).map(Addresses::from)
    }
}
