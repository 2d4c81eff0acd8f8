//! The audit chain over all audit logs: verified on demand, pruned by age.
//!
//! Someone who can write the database can also write a complete other chain. So its head is
//! published where they cannot write: in the coordinator's log, every hour, and to callers of
//! `audit verify`. `--expect` compares earlier heads.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::state::AppState;
use crate::store::contract::{AuditChainState, ChainLink};
use crate::store::{Store, StoreError};

/// Entries deleted in one transaction.
const BATCH: u32 = 500;

/// A chain link as people write it down: `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted(pub ChainLink);

/// A text that is not a [`Noted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not SEQ:HASH, such as `audit verify` prints")]
pub struct NotedError;

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.seq, HEXLOWER.encode(&self.0.hash))
    }
}

impl FromStr for Noted {
    type Err = NotedError;

    fn from_str(text: &str) -> Result<Self, NotedError> {
        let (seq, hex) = text.split_once(':').ok_or(NotedError)?;
        let seq = seq.parse().map_err(|_| NotedError)?;
        let hash = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| NotedError)?;
        let hash = hash.try_into().map_err(|_| NotedError)?;
        Ok(Self(ChainLink { seq, hash }))
    }
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The state of the chain itself.
    pub state: AuditChainState,
    /// The first expected link that is missing or changed; `None`: all match.
    pub unmet: Option<ChainLink>,
}

/// Verifies the whole chain, and that it still contains the expected links. One from before the
/// anchor was pruned by age and proves nothing.
pub async fn verify(store: &Store, expected: Vec<ChainLink>) -> Result<Checked, StoreError> {
    store
        .read_long(move |tables| {
            let state = tables.verify_audit_chain()?;
            let mut unmet = None;
            for &link in &expected {
                let forgotten = matches!(&state, AuditChainState::Whole { anchor, .. }
                    if link.seq < anchor.seq);
                if !forgotten && tables.audit_chain_link(link.seq)? != Some(link) {
                    unmet = unmet.or(Some(link));
                }
            }
            Ok(Checked { state, unmet })
        })
        .await
}

/// Deletes old entries, and writes the head to the log.
pub(super) async fn keep(state: &AppState) {
    match forget(state).await {
        Ok(0) => {}
        Ok(forgotten) => tracing::info!(forgotten, "deleted old audit entries"),
        Err(error) => tracing::error!(error = %chain(&error), "cannot delete old audit entries"),
    }
    match state.store.read(|tables| tables.audit_chain_head()).await {
        Ok(head) => tracing::info!(head = %Noted(head), "audit chain"),
        Err::<_, StoreError>(error) => {
            tracing::error!(error = %chain(&error), "cannot read the audit chain");
        }
    }
}

/// Deletes entries older than the configuration allows; returns how many.
pub async fn forget(state: &AppState) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    while !state.drain.is_cancelled() {
        let services = Arc::clone(state);
        let some: Result<u64, StoreError> = state
            .store
            .write(move |tables| {
                // A clock that is ahead would make all entries look old.
                let Ok(now) = services.time.believed() else { return Ok(0) };
                let cutoff = now.checked_sub(services.config.audit.kept()).unwrap_or(now);
                tables.prune_audit_chain(cutoff, now, BATCH)
            })
            .await;
        match some? {
            0 => break,
            some => forgotten += some,
        }
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::testing::World;

    async fn checked(world: &World, expected: &[Noted]) -> Checked {
        let expected = expected.iter().map(|noted| noted.0).collect();
        verify(&world.state.store, expected).await.unwrap()
    }

    async fn head(world: &World) -> Noted {
        match checked(world, &[]).await.state {
            AuditChainState::Whole { head, .. } => Noted(head),
            AuditChainState::Broken(broken) => panic!("{broken:?}"),
        }
    }

    #[tokio::test]
    async fn actions_are_chained_and_pruned_after_two_years() {
        let world = World::new();
        let jwt = world.member("one").await;
        world.cli_tokens(&jwt).await;
        let first = head(&world).await;
        assert!(first.0.seq >= 3, "registered, logged in, allowed");
        assert_eq!(first.to_string().parse(), Ok(first));
        world.clock.advance(SignedDuration::from_hours(400 * 24));
        assert_eq!(forget(&world.state).await.unwrap(), 0);
        world.log_in("one").await;
        let second = head(&world).await;
        assert!(checked(&world, &[first, second]).await.unmet.is_none());
        world.clock.advance(SignedDuration::from_hours(400 * 24));
        assert_eq!(forget(&world.state).await.unwrap(), first.0.seq.unsigned_abs());
        assert_eq!(forget(&world.state).await.unwrap(), 0, "once");
        let state = checked(&world, &[first, second]).await;
        assert!(matches!(state.state, AuditChainState::Whole { anchor, .. } if anchor == first.0));
        assert!(state.unmet.is_none());
    }

    #[tokio::test]
    async fn a_noted_head_exposes_a_replaced_chain() {
        let world = World::new();
        world.register("one").await;
        let noted = head(&world).await;
        let another = World::new();
        another.register("two").await;
        let later = head(&another).await;
        assert_eq!(noted.0.seq, later.0.seq);
        assert_eq!(checked(&another, &[noted]).await.unmet, Some(noted.0));
        let beyond = Noted(ChainLink { seq: 99, ..noted.0 });
        assert_eq!(checked(&world, &[noted, beyond]).await.unmet, Some(beyond.0));
    }

    #[test]
    fn malformed_links_are_refused() {
        for text in ["", "1", "1:", "x:00", &format!("1:{}", "é".repeat(32))] {
            assert!(text.parse::<Noted>().is_err(), "{text}");
        }
    }
}
