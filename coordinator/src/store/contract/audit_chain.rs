//! The audit chain over all audit logs.

use jiff::Timestamp;

use super::Result;

/// A link of the chain: its number, and SHA-256 over the previous link and its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLink {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    pub hash: [u8; 32],
}

/// Where the logs are not as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The number of the first invalid link.
    pub link: i64,
    /// The log and the entry of that link, if known.
    pub entry: Option<(String, i64)>,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Result of verifying the whole chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditChainState {
    /// Every entry of every log is as it was written.
    Whole {
        /// Up to where entries were pruned by age; 0: none were.
        anchor: ChainLink,
        head: ChainLink,
    },
    /// Something was changed from outside; the first such place.
    Broken(Break),
}

/// Access to the audit chain.
pub trait AuditChain {
    fn audit_chain_head(&self) -> Result<ChainLink>;
    /// The link with this number, if it exists.
    fn audit_chain_link(&self, seq: i64) -> Result<Option<ChainLink>>;
    /// Verifies every entry of every log.
    fn verify_audit_chain(&self) -> Result<AuditChainState>;
    /// Deletes entries from before `cutoff`, at most `most`, from the beginning on; returns how
    /// many. The rest starts at an anchor, and an entry about the pruning is added.
    fn prune_audit_chain(&mut self, cutoff: Timestamp, now: Timestamp, most: u32) -> Result<u64>;
}
