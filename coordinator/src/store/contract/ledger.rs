//! The chain over all audit logs.

use jiff::Timestamp;

use super::Result;

/// A link of the chain: its number, and SHA-256 over all before it and its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    pub hash: [u8; 32],
}

/// Where the logs are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The number of the first link that does not hold.
    pub link: i64,
    /// The log and the entry in it that the link is about, where that is known.
    pub entry: Option<(String, i64)>,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What a look at the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditChainState {
    /// Every entry of every log is as it was written.
    Whole {
        /// Up to where entries were forgotten for their age; 0: none was.
        anchor: Link,
        head: Link,
    },
    /// Something was changed from outside; the first place.
    Broken(Break),
}

/// Access to the chain.
pub trait AuditChain {
    fn ledger_head(&self) -> Result<Link>;
    /// The hash of the link with this number, if it is there.
    fn ledger_link(&self, seq: i64) -> Result<Option<Link>>;
    /// Looks at every entry of every log.
    fn verify_ledger(&self) -> Result<AuditChainState>;
    /// Forgets entries from before `cutoff`, `most` at most, from the beginning on; how many. What
    /// is left begins at an anchor, and an entry about it is added.
    fn prune_ledger(&mut self, cutoff: Timestamp, now: Timestamp, most: u32) -> Result<u64>;
}
