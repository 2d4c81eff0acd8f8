//! One pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::Clock;
use buddo_shared::id::DeploymentId;
use buddo_shared::manifest::DeploymentSpec;
use buddo_shared::report::ReportBody;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::old_table::needs_no_new_table;
use super::relist::Scope;
use super::{Domains, RELIST, RELIST_BLIND, Reconciler};
use crate::adapters::probe::board;
use crate::adapters::store::Entry;
use crate::host::oom::Watched;
use crate::model::container::{ContainerState, Process, Slot};
use crate::model::document::Document;
use crate::model::failed_requests::{Counts, FailedRequests, Names};
use crate::model::health::{Level, Trackers};
use crate::model::host_facts::LimitRule;
use crate::model::live_table::{LiveTable, Target};
use crate::model::retries;
use crate::model::spec::RevisionSpec;
use crate::model::step::Lane;
use crate::plan::rollback_watch::failed_requests::Failed;
use crate::plan::rollback_watch::mass_failure::many;
use crate::plan::state::{DeploymentState, StepOutcome};
use crate::plan::{Plan, Replacing, Rules, Seen, View, messages, plan, wanted};
use crate::ports::{Containers, ContainersError, LiveTablePublisher, Prober, Proxy};
use crate::reconcile::executor::Operation;
use crate::reconcile::observe::{Observed, observe};
use crate::reconcile::operations::{Asked, Ended};

/// After Podman was away, or many apps went down together, no guard judges for this long.
const TROUBLE: Duration = Duration::from_secs(30);

/// One deployment in one pass.
pub(super) struct Case<'a> {
    pub(super) id: DeploymentId,
    pub(super) desired: Option<&'a Arc<DeploymentSpec>>,
    pub(super) containers: Vec<Seen<'a>>,
    pub(super) plan: Plan,
}

impl<C, P, X, L, K> Reconciler<C, P, X, L, K>
where
    C: Containers,
    P: Prober,
    X: Proxy,
    L: LiveTablePublisher,
    K: Clock,
{
    /// Makes one pass over everything. Returns when to look again if nothing happens.
    pub(super) async fn pass(&mut self) -> Option<Instant> {
        self.take_in_events();
        let Some(document) = self.newest_document() else {
            // Without a document nothing is known to be unwanted: nothing is touched.
            self.show(None, &[], Instant::now());
            return None;
        };
        if self.trouble.is_some() {
            // Asking may take long while Podman hangs, and that it hangs is known already.
            self.show_trouble(&document);
        }
        let observed = match self.look().await {
            Ok(observed) => observed,
            Err(error) => {
                let reason = &error as &dyn std::error::Error;
                tracing::warn!(reason, "containers cannot be listed");
                self.trouble = Some(messages::podman_trouble(&error, self.trouble.take()));
                self.troubled_until = Some(Instant::now() + TROUBLE);
                self.sweep.arm(Instant::now());
                self.show_trouble(&document);
                let again = self.failures.listing.next(retries::HOST, (self.world.jitter)());
                self.relist.failed(Instant::now(), again);
                return Some(again);
            }
        };
        // Observing takes long while Podman hangs, and the desired state may have changed
        // meanwhile.
        let document = self.newest_document().unwrap_or(document);
        self.trouble = None;
        self.failures.listing.end();
        self.learn_anew(&document, &observed);

        let now = Instant::now();
        let health = self.probes.snapshot();
        self.look_for_trouble(&observed, &health, now);
        let mut cases = self.plan_all(&document, &observed, &health, now);
        if cases.iter().any(|case| case.plan.decided) {
            // If this were forgotten, the bad revision would come back.
            self.persist().await;
        }
        let guarded = cases.iter().any(|case| case.plan.guarded_until.is_some());
        let names = guarded.then(|| self.names(&document));
        if names.is_none() {
            // They hold their document, which may be an old one.
            self.names = None;
        }
        self.errors.want(names);
        self.kills.want(self.guarded(&cases));
        let look = self.exits.keep(running(&cases));
        self.keep_probes(&cases);
        let published = self.publish(&document, &cases, now).await;
        self.want_routes(&document, &cases, now);
        let mut next = cases.iter().filter_map(|case| case.plan.wake).min();
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        let waits = [self.shortage.due(now), self.permits.due(now)];
        let looks = [look, self.secrets.again(), self.sweep.due()];
        for at in looks.into_iter().chain(waits).flatten().chain([self.relist.due()]) {
            sooner(at);
        }
        self.send_orders(&mut cases, published, now);
        if published {
            self.failures.publishing.end();
        } else {
            sooner(self.failures.publishing.next(retries::HOST, (self.world.jitter)()));
        }
        if let Some(due) = self.show(Some(&document), &cases, now) {
            sooner(due);
        }
        let gone: Vec<_> = cases.iter().filter(|case| case.plan.gone).map(|case| case.id).collect();
        drop(cases);
        if published {
            self.forget(&gone);
        }
        self.observed = observed;
        self.save();
        next
    }

    /// The document in force. Withdraws operations that it no longer asks for.
    fn newest_document(&mut self) -> Option<Arc<Document>> {
        let document = self.inputs.document.borrow_and_update().clone()?;
        self.operations.withdraw(|id| asked(self.memories.get(&id), document.entries().get(&id)));
        Some(document)
    }

    fn take_in_events(&mut self) {
        let now = Instant::now();
        self.event_liveness.hear(*self.inputs.events.lines.borrow());
        for ended in self.operations.drain(&mut self.relist) {
            let Ended { deployment, lane, step, revision, happened, lines_before } = ended;
            self.secrets.hear(&step, &happened, now);
            self.sweep.hear(&step, &happened, now);
            if let StepOutcome::Failed(error) = &happened
                && (messages::is_damage(error)
                    || matches!(error, ContainersError::Unavailable { .. }))
            {
                self.trouble = Some(messages::podman_trouble(error, self.trouble.take()));
                self.relist.unanswered(now);
            }
            self.shortage.hear(&step, &happened, now);
            if step.is_event() && matches!(happened, StepOutcome::Done) {
                self.event_liveness.expect(lines_before, now);
            }
            let jitter = (self.world.jitter)();
            if let Some(memory) = self.memories.get_mut(&deployment) {
                memory.record(lane, &step, revision, happened, now, jitter);
            }
        }
        if self.event_liveness.overdue(now) {
            tracing::warn!("Podman's event stream stalled; reopening it");
            self.inputs.events.renew.notify_one();
            self.relist.doubt_all();
        }
    }

    async fn look(&mut self) -> Result<Observed, ContainersError> {
        if self.look_at_secrets().await? {
            // Each call has its deadline: if Podman hangs, the loop does not.
            self.beat();
        }
        let observed = self.ask_podman().await?;
        if self.look_for_lost().await {
            self.beat();
        }
        Ok(observed)
    }

    /// The containers of the host: what is in doubt is asked for, the rest is as it was.
    async fn ask_podman(&mut self) -> Result<Observed, ContainersError> {
        self.doubt_what_was_hinted_at();
        let containers = Arc::clone(&self.world.containers);
        let mut observed = std::mem::take(&mut self.observed);
        if let Scope::Named(names) = self.relist.take(observed.len(), Instant::now()) {
            match observed.refresh(&*containers, names).await {
                Ok(()) => return Ok(observed),
                // One container that cannot be inspected is no reason to lose sight of the others.
                Err(error) => {
                    if messages::is_damage(&error) {
                        self.trouble = Some(messages::podman_trouble(&error, None));
                    }
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "a container cannot be inspected; listing all");
                }
            }
        }
        let observed = observe(&*containers).await?;
        for name in &observed.unknown {
            tracing::debug!(%name, "a container has only some of our labels; leaving it alone");
        }
        let hears = *self.inputs.events.healthy.borrow() && !self.event_liveness.is_deaf();
        let period = if hears { RELIST } else { RELIST_BLIND };
        let period = period.mul_f64(1.0 - (self.world.jitter)() / 5.0);
        self.relist.listed(Instant::now(), period);
        Ok(observed)
    }

    /// Events name containers, the kernel names processes, and what does not answer may have ended.
    fn doubt_what_was_hinted_at(&mut self) {
        let events = &mut self.inputs.events;
        if events.hints.has_changed().unwrap_or_default() {
            events.hints.mark_unchanged();
            self.hinted = true;
        }
        if std::mem::take(&mut self.hinted) {
            match events.named.take() {
                Some(names) => names.into_iter().for_each(|name| self.relist.doubt(name)),
                None => self.relist.doubt_all(),
            }
        }
        let ended: HashSet<&Process> = self.exits.ended().collect();
        if !ended.is_empty() {
            let known = self.observed.deployments.values().flatten();
            for container in known.filter(|c| c.process.as_ref().is_some_and(|p| ended.contains(p)))
            {
                self.relist.doubt(&container.name);
            }
        }
        for name in self.probes.unanswered() {
            self.relist.doubt(name);
        }
    }

    /// Whether the host is to blame for what happens to apps now.
    fn look_for_trouble(&mut self, observed: &Observed, health: &Trackers, now: Instant) {
        let mut serving = 0;
        let mut missing = BTreeSet::new();
        for (id, memory) in &self.memories {
            let Some(live) = memory.persisted.live else { continue };
            serving += 1;
            let mut containers = observed.deployments.get(id).into_iter().flatten();
            let found = containers.find(|container| container.identity.is_some_and(|i| live.is(i)));
            if found.is_none() {
                missing.insert(*id);
            }
            let runs = found.is_some_and(|found| found.state == ContainerState::Running);
            if !runs && memory.crash.ran && !memory.crash.down {
                self.mass_failure.ended(*id, now);
            }
        }
        self.sweep.misses(missing, now);
        if self.mass_failure.is_common(serving, now) {
            if self.troubled_until.is_none_or(|until| until <= now) {
                tracing::warn!("many apps went down together; guards do not blame them for it");
            }
            self.troubled_until = Some(now + TROUBLE);
        }
        let sick = health.values().filter(|tracker| tracker.is_failing()).count();
        self.many_sick = many(sick, serving);
    }

    fn plan_all<'a>(
        &mut self,
        document: &'a Document,
        observed: &'a Observed,
        health: &'a Trackers,
        now: Instant,
    ) -> Vec<Case<'a>> {
        let rules = Rules {
            limits: self.inputs.facts.borrow_and_update().limits,
            drain: self.settings.drain.clone(),
            network: self.settings.network.clone(),
            troubled_until: self.troubled_until,
            many_sick: self.many_sick,
            secrets_known: self.secrets.known,
        };
        // A clock that is behind the signed time is wrong.
        let wall = self.world.clock.now().max(document.manifest().issued_at);
        let seen = self.errors.seen();
        let troubled = self.troubled_until.is_some_and(|until| until > now);
        let mut permits = self.permits.round(troubled, self.many_sick, now);
        let mut waiting = BTreeSet::new();
        let mut cases = Vec::with_capacity(self.memories.len());
        for (id, memory) in &mut self.memories {
            let desired = document.entries().get(id);
            let containers: Vec<Seen<'a>> = observed
                .deployments
                .get(id)
                .into_iter()
                .flatten()
                .map(|container| Seen { container, tracker: health.get(&container.name) })
                .collect();
            let busy = self.operations.busy(*id);
            if let Some(digest) = desired.and_then(|desired| desired.digest.clone()) {
                let revision = desired.map(|desired| desired.revision);
                memory.persisted.digests.extend(revision.map(|revision| (revision, digest)));
            }
            let guarded = desired.filter(|desired| memory.guards(desired.revision));
            let counts = guarded.map(|desired| failed_requests(&seen, desired, document));
            let kills = self.kills.seen(*id);
            let view = View {
                id: *id,
                desired: desired.map(AsRef::as_ref),
                containers: &containers,
                busy: &busy,
                rules: &rules,
                failed: Failed {
                    counts: counts.as_ref(),
                    gaps: &seen.gaps,
                    known_since: seen.known_since,
                },
                kills: kills.as_ref(),
                permit: permits.permit(*id),
                now,
                wall,
                jitter: (self.world.jitter)(),
            };
            let plan = plan(memory, &view);
            match plan.replacing {
                Some(Replacing::Begins) => permits.begins(*id),
                Some(Replacing::Waits) => {
                    waiting.insert(*id);
                }
                None => {}
            }
            cases.push(Case { id: *id, desired, containers, plan });
        }
        self.permits.wait(&waiting, now);
        cases
    }

    /// All names that visitors may come by, made once for each document.
    fn names(&mut self, document: &Arc<Document>) -> Names {
        match &self.names {
            Some((of, names)) if Arc::ptr_eq(of, document) => Arc::clone(names),
            _ => {
                let all = document.entries().values();
                let names: BTreeSet<_> = all.flat_map(|app| names_of(app, document)).collect();
                let names = Arc::new(names);
                self.names = Some((Arc::clone(document), Arc::clone(&names)));
                names
            }
        }
    }

    /// Running containers that serve under a guard.
    fn guarded(&self, cases: &[Case<'_>]) -> Watched {
        let process = |case: &Case<'_>| {
            case.plan.guarded_until?;
            let live = self.memories.get(&case.id)?.persisted.live?;
            let serves = |c: &&Seen<'_>| c.identity.is_some_and(|i| live.is(i));
            let container = case.containers.iter().find(serves)?;
            container.process.clone()
        };
        cases.iter().filter_map(|case| Some((case.id, process(case)?))).collect()
    }

    fn keep_probes(&self, cases: &[Case<'_>]) {
        let mut wanted = Vec::new();
        for case in cases {
            let Some(desired) = case.desired else { continue };
            for watched in &case.plan.watch {
                let target = board::Target {
                    deployment: case.id,
                    name: watched.name.clone(),
                    address: watched.address,
                    probe: RevisionSpec::probe_of(desired, watched.revision).clone(),
                };
                let level = if watched.assumed { Level::Assumed } else { Level::Starting };
                wanted.push((target, level));
            }
        }
        self.probes.keep(wanted, &self.operations.watches());
    }

    /// Publishes the live table if it changed. Returns whether the one in force is the wanted one.
    /// What leaves drains for its full time from when the table that sends nobody to it is in
    /// force, however long that took.
    async fn publish(&mut self, document: &Document, cases: &[Case<'_>], now: Instant) -> bool {
        let mut table =
            LiveTable { zone: document.manifest().zone.to_string(), ..LiveTable::default() };
        for case in cases {
            let (Some(desired), Some(target)) = (case.desired, &case.plan.target) else { continue };
            let subdomain = desired.subdomain.to_string();
            for domain in &desired.domains {
                table.domains.insert(domain.to_string(), subdomain.clone());
            }
            table.apps.insert(subdomain, target.clone());
        }
        if self.table.as_ref() == Some(&table) && self.world.table.is_in_force().await {
            // A table that could not be written is no longer wanted, as when what crashed is back.
            if std::mem::take(&mut self.unpublished) {
                self.memories.values_mut().for_each(|memory| memory.published(now, now));
            }
            return true;
        }
        match self.world.table.publish(&table).await {
            Ok(()) => {
                self.unpublished = false;
                let in_force = Instant::now();
                (self.table, self.left) = (Some(table), None);
                self.memories.values_mut().for_each(|memory| memory.published(now, in_force));
                true
            }
            Err(error) => {
                let reason = &error as &dyn std::error::Error;
                tracing::error!(
                    reason,
                    "the live table cannot be written; the old one stays in force"
                );
                self.unpublished = true;
                self.memories.values_mut().for_each(DeploymentState::drains_anew);
                false
            }
        }
    }

    fn want_routes(&mut self, document: &Document, cases: &[Case<'_>], now: Instant) {
        let zone = &document.manifest().zone;
        let apps: Domains = cases
            .iter()
            .filter_map(|case| case.desired.filter(|desired| !desired.domains.is_empty()))
            .map(|desired| (desired.id, (desired.subdomain.clone(), desired.domains.clone())))
            .collect();
        if self.rendered.1.as_ref() != Some(zone) || self.rendered.0 != apps {
            let rendered = (self.settings.render)(zone, &apps);
            self.rendered = (apps, Some(zone.clone()), rendered);
        }
        let mut hosts = BTreeMap::new();
        for case in cases {
            let Some(desired) = case.desired else { continue };
            if !matches!(case.plan.target, Some(Target::Live { .. })) {
                continue;
            }
            let lazy = self.saved.get(&case.id).is_some_and(|durable| durable.live.is_some());
            hosts.insert(desired.subdomain.host_in(zone), lazy);
            hosts.extend(desired.domains.iter().map(|domain| (domain.to_string(), true)));
        }
        self.routes.want(&self.rendered.2.files, hosts, now);
    }

    /// Starts the planned operations. Unless the table is `published`, visitors may still be sent
    /// where an older one says: then only what is right under that one, too, is done.
    fn send_orders(&mut self, cases: &mut [Case<'_>], published: bool, now: Instant) {
        let limited = self.inputs.facts.borrow().limits != LimitRule::Waived;
        for case in cases {
            let Some(memory) = self.memories.get(&case.id) else { continue };
            let live = memory.persisted.live.map(|live| live.revision);
            for lane in [Lane::Serve, Lane::Roll] {
                let steps = case.plan.steps(lane);
                let desired = case.desired.map(|desired| desired.revision);
                let of_container = case
                    .containers
                    .iter()
                    .find_map(|c| c.identity)
                    .map(|identity| identity.revision);
                let of_secrets = memory.secrets.keys().next().copied();
                let of_lost = memory.lost.values().next().copied();
                let revision = match lane {
                    Lane::Serve => live,
                    Lane::Roll => {
                        let known = case.plan.revision.or(desired).or(of_container);
                        known.or(of_secrets).or(of_lost)
                    }
                };
                let (Some(revision), false) = (revision, steps.is_empty()) else { continue };
                let network = &self.settings.network;
                let order = Operation {
                    deployment: case.id,
                    revision,
                    lane,
                    steps,
                    desired: case.desired.cloned(),
                    digest: memory.persisted.digests.get(&revision).cloned(),
                    addresses: memory
                        .persisted
                        .index
                        .map(|i| [network.address(i, Slot::A), network.address(i, Slot::B)]),
                    limited,
                    stop_grace: self.settings.drain.stop_grace,
                    permit: CancellationToken::new(),
                };
                if !published {
                    let subdomain = case.desired.map(|desired| desired.subdomain.to_string());
                    let older = self.table.as_ref().or(self.left.as_ref());
                    if !needs_no_new_table(&order, subdomain.as_deref(), older) {
                        continue;
                    }
                }
                if lane == Lane::Roll && case.plan.replacing == Some(Replacing::Begins) {
                    self.permits.take(case.id, now);
                }
                let asked = asked(Some(memory), case.desired);
                self.operations.send(order, asked, &self.probes, &self.status);
            }
        }
    }

    /// Deployments of which nothing is left: their addresses are free again.
    fn forget(&mut self, gone: &[DeploymentId]) {
        for id in gone {
            self.memories.remove(id);
            self.status.set([Entry {
                subject: id.to_string(),
                body: ReportBody::Removed { id: *id },
                last: true,
            }]);
        }
    }
}

/// The processes of all running containers.
fn running<'a>(cases: &'a [Case<'_>]) -> impl Iterator<Item = &'a Process> {
    let containers = cases.iter().flat_map(|case| &case.containers);
    let running = containers.filter(|container| container.state == ContainerState::Running);
    running.filter_map(|container| container.process.as_ref())
}

/// What a deployment is asked to be.
fn asked(memory: Option<&DeploymentState>, desired: Option<&Arc<DeploymentSpec>>) -> Asked {
    let desired = desired?;
    let revision = match memory {
        Some(memory) => wanted(memory, desired).map(|wanted| wanted.revision),
        None => Some(desired.revision),
    };
    Some((revision, desired.run))
}

/// Failed requests to any name of the app.
fn failed_requests(seen: &FailedRequests, desired: &DeploymentSpec, document: &Document) -> Counts {
    let mut counts = Counts::default();
    for name in names_of(desired, document) {
        if let Some(more) = seen.counts.get(&name) {
            counts.extend(more);
        }
    }
    counts
}

/// The names under which visitors come to the app.
fn names_of(desired: &DeploymentSpec, document: &Document) -> impl Iterator<Item = String> {
    let subdomain = desired.subdomain.host_in(&document.manifest().zone);
    let domains = desired.domains.iter().map(ToString::to_string);
    std::iter::once(subdomain).chain(domains)
}
