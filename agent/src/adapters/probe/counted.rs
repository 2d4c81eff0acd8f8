//! Counts the probes of another prober.

use std::net::SocketAddrV4;

use buddo_shared::model::probe::Probe;

use crate::model::health::ProbeOutcome;
use crate::ports::Prober;
use crate::process::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct CountedProber<P> {
    pub prober: P,
    pub metrics: Metrics,
}

impl<P: Prober> Prober for CountedProber<P> {
    async fn probe(&self, address: SocketAddrV4, probe: &Probe) -> ProbeOutcome {
        let outcome = self.prober.probe(address, probe).await;
        self.metrics.probed(outcome == ProbeOutcome::Healthy);
        outcome
    }
}
