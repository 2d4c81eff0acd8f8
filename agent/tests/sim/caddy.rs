//! Caddy, the resolver it asks, and the live table's file between resolver and agent.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buddo_agent::model::failed_requests::{FailedRequests, Names};
use buddo_agent::model::live_table::{LiveTable, Target};
use buddo_agent::ports::{
    LiveTablePublisher, Proxy, ProxyError, Reading, RefusedRoute, RouteFiles,
};
use tokio::time::{Instant, sleep};

use crate::podman::Life;
use crate::world::{State, World};

/// The live table's file.
#[derive(Debug, Default, Clone)]
pub(crate) enum File {
    /// It does not exist.
    #[default]
    Missing,
    /// It is not a valid table.
    Torn,
    /// As it was written.
    Table(LiveTable),
}

/// What visitors meet.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    /// The table's file.
    pub(crate) file: File,
    /// Changes with each change of the file.
    pub(crate) stamp: u64,
    /// What the resolver answers from: the last good table that it read.
    pub(crate) table: LiveTable,
    /// Container → when visitors were last sent to it.
    pub(crate) left: BTreeMap<String, Instant>,
    /// Route files in force.
    pub(crate) routes: RouteFiles,
    /// How often Caddy loaded its configuration.
    pub(crate) reloads: u64,
    /// How often the table was replaced.
    pub(crate) publishes: u64,
    /// The newest table could not be written: visitors follow an older one.
    pub(crate) unwritten: bool,
    /// Requests that failed.
    pub(crate) errors: FailedRequests,
    /// Caddy is away until then.
    pub(crate) away_until: Option<Instant>,
}

impl Edge {
    /// Whether visitors are sent to this address.
    pub(crate) fn points_to(&self, address: Ipv4Addr) -> bool {
        let mut targets = self.table.apps.values();
        targets.any(|t| matches!(t, Target::Live { addresses } if addresses.contains(&address)))
    }
}

impl State {
    fn replace_table(&mut self, table: &LiveTable) {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.edge.table, table.clone());
        self.edge.file = File::Table(table.clone());
        self.edge.stamp += 1;
        self.edge.publishes += 1;
        self.edge.unwritten = false;
        for target in before.apps.values() {
            let Target::Live { addresses } = target else { continue };
            for address in addresses {
                if self.edge.points_to(*address) {
                    continue;
                }
                let containers = self.engine.containers.iter();
                let there = containers.filter(|(_, c)| c.address.ip() == address && c.answers(now));
                let names: Vec<String> = there.map(|(name, _)| name.clone()).collect();
                self.edge.left.extend(names.into_iter().map(|name| (name, now)));
            }
        }
    }

    fn caddy_is_away(&self) -> bool {
        self.edge.away_until.is_some_and(|until| Instant::now() < until)
    }
}

/// The agent's way to the table's file.
pub(crate) struct TableFile {
    world: Arc<World>,
    life: u32,
    written: AtomicU64,
}

impl TableFile {
    /// For the agent number `life`.
    pub(crate) fn new(world: Arc<World>, life: u32) -> Self {
        Self { world, life, written: AtomicU64::new(u64::MAX) }
    }
}

impl LiveTablePublisher for TableFile {
    async fn publish(&self, table: &LiveTable) -> std::io::Result<()> {
        let (latency, kill_before, kill_after, fails) = self.world.with(|state| {
            let (swarm, rng) = (state.swarm, &mut state.rng);
            let fails = rng.per_mille(swarm.fail_write);
            let (before, after) =
                (rng.per_mille(swarm.kill_before), rng.per_mille(swarm.kill_after));
            (rng.ms(1, swarm.slow.clamp(1, 50)), before, after, fails || state.disk_full)
        });
        sleep(latency).await;
        if !self.world.is_alive(self.life) {
            return pending().await;
        }
        if fails {
            self.world.with(|state| {
                state.say(|| "  the table cannot be written".to_owned());
                state.edge.unwritten = true;
            });
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.world.act(|state| {
            if !kill_before {
                state.say(|| format!("  publish {}", words(table)));
                state.replace_table(table);
                self.written.store(state.edge.stamp, Ordering::SeqCst);
            }
            if kill_before || kill_after {
                state.kill();
            }
        });
        if kill_before || kill_after {
            return pending().await;
        }
        Ok(())
    }

    async fn is_in_force(&self) -> bool {
        self.world.with(|state| state.edge.stamp) == self.written.load(Ordering::SeqCst)
    }
}

fn words(table: &LiveTable) -> String {
    let apps = table.apps.iter().map(|(name, target)| match target {
        Target::Live { addresses } => format!("{name}→{addresses:?}"),
        other => format!("{name}→{other:?}"),
    });
    apps.collect::<Vec<_>>().join(" ")
}

impl Proxy for Life {
    async fn apply(&self, routes: &RouteFiles) -> Result<Vec<RefusedRoute>, ProxyError> {
        let latency = self.world.with(|state| state.rng.ms(5, 50));
        sleep(latency).await;
        if !self.world.is_alive(self.number) {
            return pending().await;
        }
        self.world.with(|state| {
            if state.caddy_is_away() || state.rng.per_mille(state.swarm.away) {
                return Err(away());
            }
            if state.edge.routes != *routes {
                state.say(|| format!("  load {} route files", routes.len()));
                state.edge.routes.clone_from(routes);
                state.edge.reloads += 1;
            }
            Ok(Vec::new())
        })
    }

    async fn failed_requests(&self, _: &Names) -> std::io::Result<Reading> {
        sleep(Duration::from_millis(2)).await;
        if !self.world.is_alive(self.number) {
            return pending().await;
        }
        let requests = self.world.with(|state| state.failed_requests());
        Ok(Reading { requests, bytes: 0 })
    }

    async fn warm(&self, _: &str) -> Result<(), ProxyError> {
        sleep(Duration::from_millis(30)).await;
        if !self.world.is_alive(self.number) {
            return pending().await;
        }
        self.world.with(|state| if state.caddy_is_away() { Err(away()) } else { Ok(()) })
    }
}

fn away() -> ProxyError {
    ProxyError { message: "Caddy does not answer".to_owned(), source: None }
}
