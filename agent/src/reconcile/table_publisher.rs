//! The live table: built from the plans, published when it changed, kept on while it cannot be
//! written.

use std::sync::Arc;

use buddo_runtime::backoff::Failures;
use tokio::time::Instant;

use super::planned::{Planned, by_deployment, target_of};
use crate::model::document::Document;
use crate::model::live_table::LiveTable;
use crate::model::retries::{self, Jitter};
use crate::ports::LiveTablePublisher;

/// The outcome of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// The wanted table was in force already.
    Unchanged,
    /// The wanted table is in force since then.
    Since(Instant),
    /// It could not be written: an older one is in force.
    Not,
}

pub(super) struct TablePublisher<L> {
    port: Arc<L>,
    /// What this agent published last.
    table: Option<LiveTable>,
    /// As an earlier agent left it, until this one has written its own.
    left: Option<LiveTable>,
    unpublished: bool,
    failures: Failures,
}

/// The table that says what is planned: where visitors of each deployment's public service go.
pub(super) fn live_table(document: &Document, planned: &[Planned<'_>]) -> LiveTable {
    let mut table =
        LiveTable { zone: document.manifest().zone.to_string(), ..LiveTable::default() };
    for (id, workloads) in by_deployment(planned) {
        let Some(desired) = document.entries().get(&id) else { continue };
        let Some(target) = target_of(workloads) else { continue };
        let subdomain = desired.subdomain.to_string();
        for domain in &desired.domains {
            table.domains.insert(domain.to_string(), subdomain.clone());
        }
        table.apps.insert(subdomain, target);
    }
    table
}

impl<L: LiveTablePublisher> TablePublisher<L> {
    /// `left`: the table as an earlier agent left it.
    pub(super) fn new(port: Arc<L>, left: Option<LiveTable>) -> Self {
        Self { port, table: None, left, unpublished: false, failures: Failures::default() }
    }

    /// Publishes `table` unless it is in force.
    pub(super) async fn publish(&mut self, table: LiveTable, now: Instant) -> Published {
        if self.table.as_ref() == Some(&table) && self.port.is_in_force().await {
            // A table that could not be written is no longer wanted, as when what crashed is back.
            let was_unpublished = std::mem::take(&mut self.unpublished);
            return if was_unpublished { Published::Since(now) } else { Published::Unchanged };
        }
        match self.port.publish(&table).await {
            Ok(()) => {
                self.unpublished = false;
                (self.table, self.left) = (Some(table), None);
                Published::Since(Instant::now())
            }
            Err(error) => {
                let reason = &error as &dyn std::error::Error;
                tracing::error!(
                    reason,
                    "the live table cannot be written; the old one stays in force"
                );
                self.unpublished = true;
                Published::Not
            }
        }
    }

    /// The table in force while the wanted one cannot be written, if it is known.
    pub(super) fn older(&self) -> Option<&LiveTable> {
        self.table.as_ref().or(self.left.as_ref())
    }

    /// When to publish again; `None`: the wanted table is in force.
    pub(super) fn due(&self, jitter: &Jitter) -> Option<Instant> {
        if self.unpublished {
            return Some(self.failures.next(retries::HOST, jitter()));
        }
        self.failures.end();
        None
    }

    pub(super) fn warning(&self) -> Option<String> {
        let text = "the live table cannot be written; is the disk full?";
        self.unpublished.then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::model::live_table::Target;

    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        writes: AtomicUsize,
    }

    impl LiveTablePublisher for Disk {
        async fn publish(&self, _: &LiveTable) -> std::io::Result<()> {
            if self.full.load(Ordering::SeqCst) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.writes.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn is_in_force(&self) -> bool {
            true
        }
    }

    fn table(app: &str) -> LiveTable {
        LiveTable { apps: [(app.to_owned(), Target::Hold)].into(), ..LiveTable::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_cannot_be_written_leaves_the_old_one_until_it_is_wanted_again() {
        let (disk, jitter): (Arc<Disk>, Jitter) = (Arc::default(), Arc::new(|| 0.5));
        let mut tables = TablePublisher::new(Arc::clone(&disk), Some(table("left")));
        assert_eq!(tables.older(), Some(&table("left")));
        let now = Instant::now();
        assert_eq!(tables.publish(table("a"), now).await, Published::Since(now));
        assert_eq!(tables.publish(table("a"), now).await, Published::Unchanged);
        assert_eq!((tables.older(), tables.due(&jitter)), (Some(&table("a")), None));
        disk.full.store(true, Ordering::SeqCst);
        assert_eq!(tables.publish(table("b"), now).await, Published::Not);
        assert_eq!(tables.older(), Some(&table("a")));
        assert!(tables.warning().is_some() && tables.due(&jitter).is_some_and(|due| due > now));
        // The change is no longer wanted: what drains meanwhile has to begin again.
        assert_eq!(tables.publish(table("a"), now).await, Published::Since(now));
        assert_eq!((tables.warning(), disk.writes.load(Ordering::SeqCst)), (None, 1));
    }
}
