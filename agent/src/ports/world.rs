//! All of the outside, as one parameter.

use std::sync::Arc;

use buddo_runtime::clock::Clock;

use super::{Cgroups, Containers, LiveTablePublisher, MemoryEvents, Prober, ProcessExits, Proxy};
use crate::model::retries::Jitter;

/// The outside world of the reconciler: Podman, apps, Caddy, the resolver, time and chance.
pub trait World: Send + Sync + 'static {
    type Containers: Containers;
    type Prober: Prober;
    type Proxy: Proxy;
    type LiveTable: LiveTablePublisher;
    type Clock: Clock;

    fn containers(&self) -> &Arc<Self::Containers>;
    fn prober(&self) -> &Arc<Self::Prober>;
    fn proxy(&self) -> &Arc<Self::Proxy>;
    fn live_table(&self) -> &Arc<Self::LiveTable>;
    fn clock(&self) -> &Arc<Self::Clock>;
    fn jitter(&self) -> &Jitter;
    /// Kills for memory, where the kernel counts them.
    fn memory_events(&self) -> Option<Arc<dyn MemoryEvents>> {
        None
    }
    /// Containers' cgroups, where they can be read.
    fn cgroups(&self) -> Option<Arc<dyn Cgroups>> {
        None
    }
    /// Process exits, where the kernel reports them: before Podman does.
    fn process_exits(&self) -> Option<Arc<dyn ProcessExits>> {
        None
    }
}
