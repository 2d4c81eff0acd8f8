//! Kills, and remembers what.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::Victim;
use crate::load::Outage;
use crate::trials::absence::kill_caddy;
use crate::world::World;

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
        // Still dead from the previous kill: the supervisor has not restarted it yet.
        if victim != Victim::Podman && self.world.service(victim.service())?.pid.is_none() {
            return Ok(());
        }
        *self.kills.entry(victim).or_default() += 1;
        match victim {
            Victim::Podman => self.world.kill_podman(),
            Victim::Caddy => {
                self.absences.spawn(kill_caddy(self.world)?);
                Ok(())
            }
            Victim::Agent | Victim::Coordinator | Victim::Resolver => {
                self.world.signal(victim.service(), Signal::SIGKILL)
            }
        }
    }

    /// Caddy's absences, and how often each service was killed.
    pub(super) async fn finish(self) -> anyhow::Result<(Vec<Outage>, BTreeMap<Victim, u32>)> {
        let absences = self.absences.join_all().await.into_iter();
        Ok((absences.collect::<anyhow::Result<_>>()?, self.kills))
    }
}
