//! Caddy: route files and certificates for the document's names, and its log of failed requests
//! while auto rollback watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use buddo_shared::host_wire::manifest::DeploymentSpec;
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::name::{HostName, Subdomain};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::planned::{Planned, by_deployment, target_of};
use super::routing::{Routes, Settled};
use crate::host::proxy_errors::ProxyErrors;
use crate::model::document::Document;
use crate::model::failed_requests::{Counts, FailedRequests, Names};
use crate::model::live_table::Target;
use crate::model::retries::Jitter;
use crate::model::workload::WorkloadId;
use crate::ports::{Proxy, RouteFiles};

/// Route files and which of them each app needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    pub files: RouteFiles,
    /// The file that every app needs.
    pub zone: String,
    /// Files that only one app needs, in addition.
    pub own: BTreeMap<DeploymentId, String>,
}

/// Apps with host names of their own.
pub type Domains = BTreeMap<DeploymentId, (Subdomain, Vec<HostName>)>;

/// Renders route files for a zone and the domains in it.
pub type Render = Arc<dyn Fn(&HostName, &Domains) -> Rendered + Send + Sync>;

pub(super) struct Edge<X> {
    routes: Routes<X>,
    failed_requests: ProxyErrors<X>,
    render: Render,
    /// What was rendered last, and what for.
    rendered: (Domains, Option<HostName>, Rendered),
    /// All names of the document in force, made once for each, while they are wanted.
    names: Option<(Arc<Document>, Names)>,
}

impl<X: Proxy> Edge<X> {
    pub(super) fn new(proxy: &Arc<X>, render: Render, jitter: Jitter, wake: &Arc<Notify>) -> Self {
        Self {
            routes: Routes::new(Arc::clone(proxy), jitter, Arc::clone(wake)),
            failed_requests: ProxyErrors::new(Arc::clone(proxy), Arc::clone(wake)),
            render,
            rendered: (BTreeMap::new(), None, Rendered::default()),
            names: None,
        }
    }

    /// The routes, for display.
    pub(super) fn routes(&self) -> Routes<X> {
        self.routes.clone()
    }

    /// Drives Caddy and reads its log, until it is dropped.
    pub(super) fn drive(&self) -> impl Future<Output = ()> + Send + use<X> {
        let (routes, failed_requests) = (self.routes.clone(), self.failed_requests.clone());
        async move {
            tokio::join!(routes.run(), failed_requests.run());
        }
    }

    /// Reads Caddy's log while some revision is `watched`.
    pub(super) fn follow_log(&mut self, document: &Arc<Document>, watched: bool) {
        if !watched {
            // They hold their document, which may be an old one.
            self.names = None;
        }
        let names = watched.then(|| self.names(document));
        self.failed_requests.want(names);
    }

    /// All names that visitors may come by.
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

    /// What the log says.
    pub(super) fn failed_requests(&self) -> Arc<FailedRequests> {
        self.failed_requests.seen()
    }

    /// Wants the routes of the document, and certificates for the names of what is live. `served`:
    /// whether a workload served before this pass.
    pub(super) fn want_routes(
        &mut self,
        document: &Document,
        planned: &[Planned<'_>],
        served: impl Fn(WorkloadId) -> bool,
        now: Instant,
    ) {
        let zone = &document.manifest().zone;
        let apps: Domains = document
            .entries()
            .values()
            .filter(|desired| !desired.domains.is_empty())
            .map(|desired| (desired.id, (desired.subdomain.clone(), desired.domains.clone())))
            .collect();
        if self.rendered.1.as_ref() != Some(zone) || self.rendered.0 != apps {
            let rendered = (self.render)(zone, &apps);
            self.rendered = (apps, Some(zone.clone()), rendered);
        }
        let mut hosts = BTreeMap::new();
        for (id, workloads) in by_deployment(planned) {
            let Some(desired) = document.entries().get(&id) else { continue };
            if !matches!(target_of(workloads), Some(Target::Live { .. })) {
                continue;
            }
            let served = workloads.iter().any(|w| !w.is_internal() && served(w.id));
            hosts.insert(desired.subdomain.host_in(zone), served);
            hosts.extend(desired.domains.iter().map(|domain| (domain.to_string(), true)));
        }
        self.routes.want(&self.rendered.2.files, hosts, now);
    }

    /// Whether route and certificate of the app at `host` are ready.
    pub(super) fn settled(&self, id: DeploymentId, host: &str, now: Instant) -> Settled {
        let rendered = &self.rendered.2;
        let needed = rendered.own.get(&id).into_iter().chain([&rendered.zone]);
        self.routes.settled(host, &needed.cloned().collect(), now)
    }

    /// Warnings for the administrator.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.routes.warnings().into_iter().chain(self.failed_requests.warning())
    }
}

/// Failed requests to any name of the app.
pub(super) fn failed_requests_of(
    seen: &FailedRequests,
    desired: &DeploymentSpec,
    document: &Document,
) -> Counts {
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::testing::{desired, document};

    #[test]
    fn failed_requests_to_each_name_of_an_app_are_its_own_and_no_others() {
        let mut app = desired(1, "ghcr.io/a/b:1");
        app.domains = vec![HostName::parse("www.example.org").unwrap()];
        let mut seen = FailedRequests::default();
        for host in ["app-1.apps.example", "www.example.org", "app-2.apps.example"] {
            seen.add(host.to_owned(), Timestamp::UNIX_EPOCH);
        }
        let document = document(vec![app.clone(), desired(2, "ghcr.io/a/b:1")]);
        assert_eq!(failed_requests_of(&seen, &app, &document).total(), 2);
    }
}
