//! The coordinator's metrics for Prometheus: `GET /metrics` on its own listener.
//!
//! ```text
//! requests, connections, database ── count ──► Metrics ─┐
//! passwords, hosts, streams, process ── read at a scrape ┴─► text
//! ```
//!
//! Passed explicitly to the code that counts, as in the agent (`docs/decisions/0013-metrics.md`).
//! No label names an account, a deployment, a host or an address: a request is counted under the
//! router's route pattern. So the number of series is bounded by this program's own label values.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// One label with one of this program's values.
pub(crate) type One = [(&'static str, &'static str); 1];
type Route = [(&'static str, String); 1];
type Request = [(&'static str, String); 3];

/// From answers out of memory up to the request deadline.
const SECONDS: [f64; 11] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

#[derive(Debug)]
struct Counts {
    requests: Family<Request, Counter>,
    request_seconds: Family<Route, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Family<One, Gauge>,
    refused_connections: Family<One, Counter>,
    store_seconds: Family<One, Histogram, fn() -> Histogram>,
    store_failures: Family<One, Counter>,
    corrected_loads: Counter,
    connected_hosts: Gauge,
    host_calls: Family<One, Gauge>,
    host_leases: Gauge,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            connections: Family::default(),
            refused_connections: Family::default(),
            store_seconds: Family::new_with_constructor(histogram),
            store_failures: Family::default(),
            corrected_loads: Counter::default(),
            connected_hosts: Gauge::default(),
            host_calls: Family::default(),
            host_leases: Gauge::default(),
        }
    }
}

/// The coordinator's metrics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counts>);

/// A gauge that is one higher until this is dropped.
#[derive(Debug)]
pub struct Present(Gauge);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn present(gauge: &Gauge) -> Present {
    gauge.inc();
    Present(gauge.clone())
}

impl Metrics {
    /// Registers everything under its metric name.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let c = &self.0;
        let help = "Requests, by route, method and status";
        registry.register("http_requests", help, c.requests.clone());
        let help = "From the head of a request to the head of its answer, by route";
        let seconds = c.request_seconds.clone();
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, seconds);
        let help = "Requests in flight";
        registry.register("http_requests_in_flight", help, c.in_flight.clone());
        let help = "Open connections, by listener";
        registry.register("connections", help, c.connections.clone());
        let help = "Connections closed on arrival because their address has its share already";
        registry.register("connections_refused", help, c.refused_connections.clone());
        let help = "Transactions, from request to commit, by kind";
        let seconds = c.store_seconds.clone();
        registry.register_with_unit("store_transaction", help, Unit::Seconds, seconds);
        let help = "Transactions that failed, including refusals by their use case";
        registry.register("store_transactions_failed", help, c.store_failures.clone());
        let help = "Host loads that were miscounted and corrected";
        registry.register("host_loads_corrected", help, c.corrected_loads.clone());
        let help = "Hosts that this process is connected to";
        registry.register("host_connections", help, c.connected_hosts.clone());
        for kind in ["read", "push"] {
            drop(c.host_calls.get_or_create(&[("kind", kind)]));
        }
        let help = "Calls to hosts in progress, by kind";
        registry.register("host_calls", help, c.host_calls.clone());
        let help = "Hosts that this process may push to";
        registry.register("host_leases", help, c.host_leases.clone());
    }

    /// A request is being answered, until this is dropped.
    pub fn in_flight(&self) -> Present {
        present(&self.0.in_flight)
    }

    /// A request was answered. `route` is the router's pattern.
    pub fn answered(&self, route: &str, method: &http::Method, status: u16, took: Duration) {
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        let labels = [
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("status", status.to_string()),
        ];
        self.0.requests.get_or_create(&labels).inc();
        let seconds = self.0.request_seconds.get_or_create(&[("route", route.to_owned())]);
        seconds.observe(took.as_secs_f64());
    }

    /// A connection is open, until this is dropped.
    pub fn connected(&self, listener: &'static str) -> Present {
        present(&self.0.connections.get_or_create(&[("listener", listener)]))
    }

    /// A connection was closed at once.
    pub fn refused(&self, listener: &'static str) {
        self.0.refused_connections.get_or_create(&[("listener", listener)]).inc();
    }

    pub fn transacted(&self, kind: &'static str, done: bool, took: Duration) {
        self.0.store_seconds.get_or_create(&[("kind", kind)]).observe(took.as_secs_f64());
        if !done {
            self.0.store_failures.get_or_create(&[("kind", kind)]).inc();
        }
    }

    /// A host is connected, until this is dropped.
    pub fn host_connected(&self) -> Present {
        present(&self.0.connected_hosts)
    }

    /// A call to a host is in progress, until this is dropped.
    pub fn host_call(&self, kind: &'static str) -> Present {
        present(&self.0.host_calls.get_or_create(&[("kind", kind)]))
    }

    /// A host's lease is held, until this is dropped.
    pub fn host_lease(&self) -> Present {
        present(&self.0.host_leases)
    }

    /// A host's load that was counted wrongly was put right.
    pub fn corrected_load(&self) {
        self.0.corrected_loads.inc();
    }
}
