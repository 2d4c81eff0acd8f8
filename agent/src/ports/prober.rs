//! Health probes.

use std::net::SocketAddrV4;

use buddo_shared::model::probe::Probe;

use crate::model::health::ProbeOutcome;

/// Probes containers.
pub trait Prober: Send + Sync + 'static {
    fn probe(
        &self,
        address: SocketAddrV4,
        probe: &Probe,
    ) -> impl Future<Output = ProbeOutcome> + Send;
}
