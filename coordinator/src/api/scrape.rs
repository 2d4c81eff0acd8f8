//! One scrape: counters as they are, gauges read now.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use buddo_runtime::error_chain::chain;
use buddo_runtime::process_metrics::{self, gauge};
use http::StatusCode;
use http::header::CONTENT_TYPE as HEADER;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::process::metrics::One;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::Host;

/// Media type of the answer: `OpenMetrics` 1.0, which Prometheus reads since 2.5.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, as text.
pub async fn text(state: &AppState) -> Result<String, std::fmt::Error> {
    let hosts: Result<Vec<Host>, StoreError> = state.store.read(|tables| tables.hosts()).await;
    let mut registry = Registry::default();
    process_metrics::register(&mut registry);
    let own = registry.sub_registry_with_prefix("buddo_coordinator");
    state.metrics.register(own);
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    own.register("build", "Version of the coordinator", version);
    let waiting = state.auth.hasher.waiting();
    let help = "Passwords waiting to be hashed";
    own.register("password_queue", help, gauge(waiting));
    let help = "1 while the machine's clock is not trusted: nothing is signed or purged";
    own.register("clock_doubted", help, gauge(u8::from(state.time.check().is_err())));
    let help = "Open event streams";
    own.register("event_streams", help, gauge(state.live.streams()));
    let waiting = state.store.waiting();
    let queue: Family<One, Gauge> = Family::default();
    let kinds =
        [("read", waiting.reads), ("long_read", waiting.long_reads), ("write", waiting.writes)];
    for (kind, waiting) in kinds {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        queue.get_or_create(&[("kind", kind)]).set(waiting);
    }
    own.register("store_queue", "Transactions waiting", queue);
    match hosts {
        Ok(hosts) => own.register("hosts", "Hosts, by state of the session", sessions(&hosts)),
        Err(error) => tracing::warn!(error = %chain(&error), "hosts are left out of the metrics"),
    }
    let mut written = String::new();
    encode(&mut written, &registry)?;
    Ok(written)
}

/// Hosts by the state of their sessions, over which documents are sent.
fn sessions(hosts: &[Host]) -> Family<One, Gauge> {
    let family: Family<One, Gauge> = Family::default();
    // All states, so that no series vanishes when it falls to zero.
    for session in ["up", "unreachable", "refusing"] {
        drop(family.get_or_create(&[("session", session)]));
    }
    for host in hosts {
        let session = match (host.unreachable_since, &host.refusal) {
            (Some(_), _) => "unreachable",
            (None, Some(_)) => "refusing",
            (None, None) => "up",
        };
        family.get_or_create(&[("session", session)]).inc();
    }
    family
}

async fn answer(State(state): State<AppState>) -> Response {
    match text(&state).await {
        Ok(text) => ([(HEADER, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Serves only `GET /metrics` on `listener`, until the process drains.
pub async fn serve(listener: TcpListener, state: AppState) {
    let drain = state.drain.clone();
    let router = Router::new().route("/metrics", get(answer)).with_state(state);
    let served = axum::serve(listener, router).with_graceful_shutdown(drain.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "metrics are no longer served");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    /// Names without values: a reviewed interface.
    #[tokio::test]
    async fn metric_names_match_the_snapshot() {
        let world = World::new();
        world.host(1, 4096).await;
        world.get("/health", "").await;
        drop(world.state.metrics.connected("api"));
        world.state.metrics.refused("api");
        let text = text(&world.state).await.unwrap();
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        insta::assert_snapshot!(names.join("\n"));
        assert!(text.contains("buddo_coordinator_hosts{session=\"up\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn requests_are_counted_by_route_not_by_client_input() {
        let world = World::new();
        for id in 0..20 {
            let path = format!("/api/deploy/apps/00000000-0000-0000-0000-{id:012}/status");
            assert_eq!(world.get(&path, "").await.status, 401);
            assert_eq!(world.get(&format!("/nowhere/{id}"), "").await.status, 404);
            let method = format!("MADE{id}");
            assert_eq!(world.call(&method, "/health", None, None).await.status, 405);
        }
        let text = text(&world.state).await.unwrap();
        let requests: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("buddo_coordinator_http_requests_total"))
            .collect();
        assert_eq!(requests.len(), 3, "{requests:?}");
        let status = "route=\"/api/deploy/apps/{id}/status\",method=\"GET\",status=\"401\"} 20";
        for part in [status, "route=\"none\",method=\"GET\",status=\"404\"} 20", "method=\"other\""]
        {
            assert!(requests.iter().any(|line| line.contains(part)), "{part}: {requests:?}");
        }
    }
}
