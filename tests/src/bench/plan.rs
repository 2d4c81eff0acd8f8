//! The pure plan, at a size beyond any real host.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use buddo_agent::config::{Drain, Network};
use buddo_agent::model::address::Index;
use buddo_agent::model::cgroup::LimitCheck;
use buddo_agent::model::container::{Container, ContainerState, Identity, Slot};
use buddo_agent::model::health::{Level, Tracker, Trackers};
use buddo_agent::model::host_facts::LimitRule;
use buddo_agent::model::persisted::{Persisted, Serving};
use buddo_agent::model::spec::WorkloadSpec;
use buddo_agent::model::workload::container_name;
use buddo_agent::plan::replicas::Replicas;
use buddo_agent::plan::rollback_watch::failed_requests::Failed;
use buddo_agent::plan::state::WorkloadState;
use buddo_agent::plan::{Busy, Permit, Rules, Seen, View, plan};
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState};
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::name::Subdomain;
use jiff::Timestamp;
use uuid::Uuid;

use super::sheet;
use crate::impostor;

const DEPLOYMENTS: u16 = 10_000;
const ROUNDS: u32 = 20;

/// Every deployment serves and there is nothing to do: the case of nearly all passes.
pub(super) fn measure() -> anyhow::Result<()> {
    let network = Network {
        slot_a: Ipv4Addr::new(127, 64, 0, 0),
        slot_b: Ipv4Addr::new(127, 96, 0, 0),
        special: Ipv4Addr::new(127, 63, 0, 1),
        app_port: 8000,
    };
    let drain = Drain { before_stop: Duration::from_secs(10), stop_grace: Duration::from_secs(10) };
    let mut cases = Vec::new();
    let mut health = Trackers::new();
    for number in 0..DEPLOYMENTS {
        let (desired, container, state) = case(number, &network)?;
        health.insert(container.name.clone(), Tracker::new(Level::Healthy));
        cases.push((desired, container, state));
    }
    let limits = LimitRule::Enforced;
    let rules = Rules {
        limits,
        drain,
        network,
        troubled_until: None,
        many_sick: false,
        secrets_known: true,
    };
    let (busy, mut took) = (Busy::default(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let (now, mut steps) = (tokio::time::Instant::now(), 0);
        for (desired, container, state) in &mut cases {
            let tracker = health.get(&container.name);
            let view = View {
                id: desired.id(),
                desired: Some(desired),
                stands_in: false,
                containers: &[Seen { container, tracker, limits: LimitCheck::Held }],
                busy: &busy,
                rules: &rules,
                failed: Failed::default(),
                kills: None,
                replicas: &Replicas::default(),
                permit: Permit::Granted,
                now,
                wall: Timestamp::UNIX_EPOCH,
                jitter: 0.5,
            };
            let plan = plan(state, &view);
            steps += plan.all_steps().count();
        }
        took.push(began.elapsed());
        ensure!(steps == 0, "{steps} steps were planned where nothing is to be done");
    }
    let what = format!("plan of {DEPLOYMENTS} deployments, nothing to do");
    sheet::durations(&what, &mut took, "10 ms");
    Ok(())
}

fn case(
    number: u16,
    network: &Network,
) -> anyhow::Result<(WorkloadSpec, Container, WorkloadState)> {
    let id = DeploymentId::new(Uuid::from_u128(u128::from(number) + 1));
    let (revision, slot) = (Revision::FIRST, Slot::A);
    let index = Index::new(number).context("no such address")?;
    let services = vec![impostor::service("ghcr.io/example/app:1", revision.get())?];
    let desired = Arc::new(DeploymentSpec {
        id,
        revision,
        subdomain: Subdomain::parse(&format!("app-{number}"))?,
        run: RunState::Running,
        domains: Vec::new(),
        services: services.try_into()?,
        auto_rollback: None,
        kept_images: Vec::new(),
    });
    let desired = WorkloadSpec::of(&desired).next().context("no workload")?;
    let identity = Identity { workload: desired.id(), revision, slot };
    let container = Container {
        name: container_name(&identity),
        identity: Some(identity),
        state: ContainerState::Running,
        address: Some(network.address(index, slot)),
        process: None,
    };
    let live = Some(Serving { revision, slot });
    let proven = [revision].into();
    let durable = Persisted { index: Some(index), live, proven, ..Persisted::default() };
    Ok((desired, container, WorkloadState::restore(durable)))
}
