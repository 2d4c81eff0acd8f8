//! What the kernel reports of running containers: exits, and kills for memory where auto rollback
//! watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::planned::Planned;
use crate::host::exits::ExitWatch;
use crate::host::oom::{OomWatch, Watched};
use crate::model::container::{ContainerState, Process};
use crate::model::oom_kills::OomKills;
use crate::model::workload::WorkloadId;
use crate::plan::Seen;
use crate::plan::state::WorkloadState;
use crate::ports::World;

pub(super) struct Lookouts {
    kills: OomWatch,
    exits: ExitWatch,
}

impl Lookouts {
    /// At most `exits_at_most` processes are watched for their exit.
    pub(super) fn new<W: World>(world: &W, exits_at_most: usize, wake: &Arc<Notify>) -> Self {
        let (kills, exits) = (OomWatch::new(Arc::clone(wake)), ExitWatch::new(Arc::clone(wake)));
        Self {
            kills: match world.memory_events() {
                Some(events) => kills.of(events),
                None => kills,
            },
            exits: match world.process_exits() {
                Some(source) => exits.of(source),
                None => exits,
            }
            .at_most(exits_at_most),
        }
    }

    /// Reads kills until it is dropped.
    pub(super) fn drive(&self) -> impl Future<Output = ()> + Send + use<> {
        let kills = self.kills.clone();
        async move { kills.run().await }
    }

    /// Looks at what runs now. Returns when to list again.
    pub(super) fn keep(
        &mut self,
        planned: &[Planned<'_>],
        states: &BTreeMap<WorkloadId, WorkloadState>,
    ) -> Option<Instant> {
        let serving =
            |workload: &Planned<'_>| serving_under_watch(workload, states.get(&workload.id)?);
        let watched: Watched =
            planned.iter().filter_map(|workload| Some((workload.id, serving(workload)?))).collect();
        self.kills.want(watched);
        let containers = planned.iter().flat_map(|workload| &workload.containers);
        let running = containers.filter(|container| container.state == ContainerState::Running);
        self.exits.keep(running.filter_map(|container| container.process.as_ref()))
    }

    /// The kernel's count for what this workload serves with.
    pub(super) fn kills(&self, id: WorkloadId) -> Option<OomKills> {
        self.kills.seen(id)
    }

    /// Processes that have exited, and that Podman listed as running when it was last asked.
    pub(super) fn ended(&self) -> impl Iterator<Item = &Process> {
        self.exits.ended()
    }

    pub(super) fn warning(&self) -> Option<String> {
        let unwatched = self.exits.unwatched();
        (unwatched > 0).then(|| {
            format!(
                "there are not enough file descriptors to watch {unwatched} more containers: their \
                 ends are noticed later, by events; raise LimitNOFILE of buddo-agent.service"
            )
        })
    }
}

/// The process that serves while auto rollback watches its revision.
fn serving_under_watch(workload: &Planned<'_>, state: &WorkloadState) -> Option<Process> {
    workload.plan.watched_until?;
    let live = state.persisted.live?;
    let serves = |c: &&Seen<'_>| c.identity.is_some_and(|i| live.is(i));
    workload.containers.iter().find(serves)?.process.clone()
}
