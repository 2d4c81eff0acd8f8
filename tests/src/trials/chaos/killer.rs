//! Kills, and measures how long Caddy was away for it.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Victim;
use crate::load::Outage;
use crate::world::{PATIENCE, PortOf, World};

/// Between two looks whether Caddy accepts again.
const LOOK: Duration = Duration::from_millis(2);

/// Kills services of one world.
pub(super) struct Killer<'a> {
    world: &'a World,
    absences: JoinSet<anyhow::Result<Outage>>,
    kills: BTreeMap<Victim, u32>,
}

impl<'a> Killer<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, absences: JoinSet::new(), kills: BTreeMap::new() }
    }

    /// SIGKILL; the supervisor starts it again, as systemd would.
    pub(super) fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        *self.kills.entry(victim).or_default() += 1;
        let from = Instant::now();
        if victim == Victim::Podman {
            return self.world.kill_podman();
        }
        self.world.signal(victim.service(), Signal::SIGKILL)?;
        if victim == Victim::Caddy {
            self.absences.spawn(absence(self.world.layout().address(PortOf::Edge), from));
        }
        Ok(())
    }

    /// Caddy's absences, and how often what was killed.
    pub(super) async fn finish(self) -> anyhow::Result<(Vec<Outage>, BTreeMap<Victim, u32>)> {
        let absences = self.absences.join_all().await.into_iter();
        Ok((absences.collect::<anyhow::Result<_>>()?, self.kills))
    }
}

/// From a kill until connections are accepted again. The kernel refuses them from some moment
/// after the signal on: a connection before that moment is one with the process that dies.
async fn absence(edge: SocketAddrV4, from: Instant) -> anyhow::Result<Outage> {
    let back = async {
        while TcpStream::connect(edge).await.is_ok() {
            tokio::time::sleep(LOOK).await;
        }
        while TcpStream::connect(edge).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
        Outage { from, until: Instant::now() }
    };
    tokio::time::timeout(PATIENCE, back).await.context("Caddy did not come back after a kill")
}
