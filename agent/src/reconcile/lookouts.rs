//! What the kernel reports of running containers: exits, the limits it holds each to, and kills for
//! memory where auto rollback watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use buddo_shared::model::limits::Limits;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::planned::Planned;
use crate::host::cgroup_counts::CountsWatch;
use crate::host::exits::ExitWatch;
use crate::host::limits::LimitWatch;
use crate::host::oom::{OomWatch, Watched};
use crate::model::cgroup::{CgroupCounts, LimitCheck};
use crate::model::container::{Container, ContainerState, Process};
use crate::model::host_facts::LimitRule;
use crate::model::oom_kills::OomKills;
use crate::model::spec::RevisionSpec;
use crate::model::workload::WorkloadId;
use crate::plan::Seen;
use crate::plan::state::WorkloadState;
use crate::ports::World;
use crate::process::metrics::Metrics;

pub(super) struct Lookouts {
    kills: OomWatch,
    exits: ExitWatch,
    limits: LimitWatch,
    counts: CountsWatch,
}

impl Lookouts {
    /// At most `exits_at_most` processes are watched for their exit.
    pub(super) fn new<W: World>(
        world: &W,
        exits_at_most: usize,
        wake: &Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
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
            limits: LimitWatch::new(world.cgroups(), Arc::clone(wake)),
            counts: CountsWatch::new(world.cgroups(), Arc::clone(wake), metrics),
        }
    }

    /// Reads kills and other counts until it is dropped.
    pub(super) fn drive(&self) -> impl Future<Output = ()> + Send + use<> {
        let (kills, counts) = (self.kills.clone(), self.counts.clone());
        async move {
            tokio::join!(kills.run(), counts.run());
        }
    }

    /// Looks at what runs now. Returns when to list again.
    pub(super) fn keep(
        &mut self,
        planned: &[Planned<'_>],
        states: &BTreeMap<WorkloadId, WorkloadState>,
        rule: LimitRule,
    ) -> Option<Instant> {
        let serving =
            |workload: &Planned<'_>| serving_under_watch(workload, states.get(&workload.id)?);
        let watched: Watched =
            planned.iter().filter_map(|workload| Some((workload.id, serving(workload)?))).collect();
        self.kills.want(watched);
        self.limits.keep(planned.iter().filter(|_| has_limits(rule)).flat_map(limited));
        self.counts.want(planned.iter().flat_map(running));
        let containers = planned.iter().flat_map(|workload| &workload.containers);
        let running = containers.filter(|container| container.state == ContainerState::Running);
        self.exits.keep(running.filter_map(|container| container.process.as_ref()))
    }

    /// What the kernel counted in the present runs of a workload's containers.
    pub(super) fn counts(&self, id: WorkloadId) -> Option<CgroupCounts> {
        self.counts.seen(id)
    }

    /// The kernel's count for what this workload serves with.
    pub(super) fn kills(&self, id: WorkloadId) -> Option<OomKills> {
        self.kills.seen(id)
    }

    /// Whether a container is held to its limits, or need not be.
    pub(super) fn limits(&self, container: &Container, rule: LimitRule) -> LimitCheck {
        match rule {
            LimitRule::Waived => LimitCheck::Held,
            _ => self.limits.check(container.process.as_ref()),
        }
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

/// Whether containers here are started with limits, or were before.
fn has_limits(rule: LimitRule) -> bool {
    matches!(rule, LimitRule::Enforced | LimitRule::Missing(_))
}

fn running<'a>(workload: &'a Planned<'_>) -> impl Iterator<Item = (WorkloadId, Process)> + 'a {
    let running = workload.containers.iter().filter(|c| c.state == ContainerState::Running);
    running.filter_map(|c| Some((workload.id, c.container.process.clone()?)))
}

/// The processes of a workload that run, and the limits that were ordered for each.
fn limited<'a>(workload: &'a Planned<'_>) -> impl Iterator<Item = (&'a Process, Option<Limits>)> {
    workload.containers.iter().filter(|c| c.state == ContainerState::Running).filter_map(|c| {
        let described = workload.desired.zip(c.identity);
        let spec = described.and_then(|(desired, i)| RevisionSpec::of(desired, i.revision));
        Some((c.container.process.as_ref()?, spec.map(|spec| spec.limits)))
    })
}

/// The process that serves while auto rollback watches its revision.
fn serving_under_watch(workload: &Planned<'_>, state: &WorkloadState) -> Option<Process> {
    workload.plan.watched_until?;
    let live = state.persisted.live?;
    let serves = |c: &&Seen<'_>| c.identity.is_some_and(|i| live.is(i));
    workload.containers.iter().find(serves)?.process.clone()
}
