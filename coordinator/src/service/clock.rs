//! Records the time on disk, reports when the clock is in doubt, and lets an administrator confirm
//! it.

use std::time::Duration;

use buddo_runtime::error_chain::chain;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::state::AppState;
use crate::store::contract::ClockMark;
use crate::store::{Store, StoreError};

/// How often the clock is checked. Signing and deleting check it themselves; this is for the log,
/// and for an administrator's confirmation.
const TICK: Duration = Duration::from_secs(3);
/// How often the time is recorded: after a pause of less than an hour, a start trusts the clock.
const KEEP: Duration = Duration::from_mins(1);
/// How often a lasting doubt is logged.
const TELL: Duration = Duration::from_mins(10);

/// Compares the clock with the recorded time, before the coordinator serves.
pub async fn begin(state: &AppState) -> Result<(), StoreError> {
    let seen = state.store.read(|tables| tables.clock_mark(ClockMark::Seen)).await?;
    if let Some(seen) = seen {
        state.time.resume(seen);
    }
    keep(state).await
}

/// Records the current time, if it is trusted.
async fn keep(state: &AppState) -> Result<(), StoreError> {
    let Ok(now) = state.time.believed() else { return Ok(()) };
    state.store.write(move |tables| tables.set_clock_mark(ClockMark::Seen, now)).await
}

/// Watches the clock until the process drains.
pub async fn run(state: AppState) {
    let mut watch = Watch::default();
    loop {
        if let Err(error) = watch.look(&state).await {
            tracing::error!(error = %chain(&error), "cannot record the time");
        }
        tokio::select! {
            () = state.drain.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Times of the last actions.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    kept: Option<Instant>,
    told: Option<Instant>,
}

fn is_due(last: Option<Instant>, each: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= each)
}

impl Watch {
    pub(crate) async fn look(&mut self, state: &AppState) -> Result<(), StoreError> {
        if state.time.check().is_err() {
            let read = state.store.read(|tables| tables.clock_mark(ClockMark::Confirmed));
            let said: Option<Timestamp> = read.await?;
            if let Some(said) = said {
                state.time.confirmed(said);
            }
        }
        match state.time.check() {
            Ok(()) => {
                if self.told.take().is_some() {
                    tracing::info!("the clock is trusted again; signing resumes");
                    state.wake.all();
                }
                if is_due(self.kept, KEEP) {
                    keep(state).await?;
                    self.kept = Some(Instant::now());
                }
            }
            Err(doubted) => {
                if self.told.is_none() {
                    // Each host is asked for its time.
                    state.wake.all();
                }
                if is_due(self.told, TELL) {
                    tracing::error!("{doubted}");
                    self.told = Some(Instant::now());
                }
            }
        }
        Ok(())
    }
}

/// The clock's state for administrators.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    pub now: Timestamp,
    /// The last time at which a serving coordinator trusted its clock.
    pub seen: Option<Timestamp>,
}

pub async fn show(store: &Store, now: Timestamp) -> Result<Shown, StoreError> {
    let seen = store.read(|tables| tables.clock_mark(ClockMark::Seen)).await?;
    Ok(Shown { now, seen })
}

/// Records an administrator's confirmation that the clock is right now. Audited.
pub async fn confirm(store: &Store, now: Timestamp) -> Result<Shown, StoreError> {
    store
        .write(move |tables| {
            let seen = tables.clock_mark(ClockMark::Seen)?;
            tables.set_clock_mark(ClockMark::Seen, now)?;
            tables.set_clock_mark(ClockMark::Confirmed, now)?;
            let details = json!({ "seen": seen, "now": now });
            tables.insert_admin_act("clock_confirm", now, None, &details)?;
            Ok(Shown { now, seen })
        })
        .await
}

#[cfg(test)]
mod tests;
