//! The agent's metrics, for Prometheus: `GET /metrics` on the local socket, and on a loopback
//! address if one is configured.
//!
//! ```text
//! reconcile, operations, probes, podman, caddy, disk, status ── count ──► Metrics ─┐
//! snapshot, document, database, events, file systems ── read at a scrape ──────────┴─► text
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use buddo_runtime::bounded::{Bounded, CONNECTIONS};
use buddo_runtime::clock::Clock;
use buddo_runtime::process_metrics::{self, gauge};
use buddo_shared::host_wire::report::Phase;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapters::store::Store;
use crate::model::document::Document;
use crate::model::snapshot::HostSnapshot;
use crate::ports::EventFeed;
use crate::process::disk_space::DiskSpace;
use crate::process::metrics::{Metrics, One};

/// Media type of the answer: `OpenMetrics` 1.0, which Prometheus reads since 2.5.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that a scrape reads. Clones share all state.
#[derive(Clone)]
pub struct Scrape {
    pub metrics: Metrics,
    pub snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    /// The document in force.
    pub document: watch::Receiver<Option<Arc<Document>>>,
    /// Reports that are not acknowledged.
    pub store: Store,
    /// Podman's events; a host that has not joined receives none.
    pub events: Option<EventFeed>,
    pub disk_space: DiskSpace,
    /// For the document's age.
    pub clock: Arc<dyn Clock>,
}

impl Scrape {
    pub async fn text(&self) -> Result<String, std::fmt::Error> {
        self.metrics.disk(&self.disk_space.of_all().await);
        let outbox = self.store.unacknowledged().await.ok();
        let mut registry = Registry::default();
        process_metrics::register(&mut registry);
        let own = registry.sub_registry_with_prefix("buddo_agent");
        self.metrics.register(own);
        self.host(own, outbox);
        self.document(own);
        self.events(own);
        let mut written = String::new();
        text::encode(&mut written, &registry)?;
        Ok(written)
    }

    fn host(&self, registry: &mut Registry, outbox: Option<u64>) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the agent", version);
        if let Some(outbox) = outbox {
            let help = "Reports that the coordinator has not acknowledged";
            registry.register("outbox_reports", help, gauge(outbox));
        }
        let Some(snapshot) = self.snapshot.borrow().clone() else { return };
        let help = "Whether the host belongs to a coordinator";
        registry.register("joined", help, gauge(snapshot.joined));
        let warnings = snapshot.host.warnings.len();
        registry.register("host_warnings", "Warnings in the host's status", gauge(warnings));
        let apps: Family<One, Gauge> = Family::default();
        // All of them, so that none vanishes when it falls to zero.
        for phase in PHASES {
            drop(apps.get_or_create(&[("phase", word(phase))]));
        }
        for app in &snapshot.deployments {
            apps.get_or_create(&[("phase", word(app.status.phase))]).inc();
        }
        registry.register("deployments", "Deployments, by how far they are", apps);
    }

    fn document(&self, registry: &mut Registry) {
        let document = self.document.borrow().clone();
        let Some(manifest) = document.as_deref().map(Document::manifest) else { return };
        let place = manifest.generation;
        let now = self.clock.now();
        let stale = manifest.expires_at <= now;
        let age = now.as_second().saturating_sub(manifest.issued_at.as_second());
        registry.register("document_epoch", "Epoch of the document in force", gauge(place.epoch));
        let help = "Generation of the document in force";
        registry.register("document_generation", help, gauge(place.generation));
        let help = "Whether the document in force has expired";
        registry.register("document_stale", help, gauge(stale));
        let help = "Time since the document in force was signed";
        registry.register_with_unit("document_age", help, Unit::Seconds, gauge(age));
    }

    fn events(&self, registry: &mut Registry) {
        let Some(events) = &self.events else { return };
        let help = "Whether Podman's event stream is open";
        registry.register("podman_events_open", help, gauge(*events.healthy.borrow()));
        let lines: Counter = Counter::default();
        lines.inc_by(*events.lines.borrow());
        registry.register("podman_event_lines", "Lines of Podman's event stream", lines);
    }
}

const PHASES: [Phase; 9] = [
    Phase::Accepted,
    Phase::Pulling,
    Phase::Starting,
    Phase::Probing,
    Phase::Routing,
    Phase::Live,
    Phase::Stopping,
    Phase::Stopped,
    Phase::Failed,
];

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Accepted => "accepted",
        Phase::Pulling => "pulling",
        Phase::Starting => "starting",
        Phase::Probing => "probing",
        Phase::Routing => "routing",
        Phase::Live => "live",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed => "failed",
    }
}

/// The answer to `GET /metrics`.
pub(crate) async fn answer(scrape: &Scrape) -> Response {
    match scrape.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Serves only `GET /metrics` on `listener`, until `stop`.
pub async fn serve(
    listener: TcpListener,
    scrape: Scrape,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let answers = move || {
        let scrape = scrape.clone();
        async move { Ok::<_, Infallible>(answer(&scrape).await) }
    };
    let router = Router::new().route("/metrics", get(answers));
    let listener = Bounded::new(listener, CONNECTIONS);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

#[cfg(test)]
pub(crate) mod tests;
