//! What the agent's core needs from the outside, and nothing of how it is done.
//!
//! `model` and `plan` are pure and know none of these; `reconcile` is the only caller of
//! [`Containers`] and [`Proxy`]. `adapters` implements them; simulation implements them with
//! faults.

mod cgroups;
mod container_logs;
mod containers;
mod desired_state;
mod events;
mod images;
mod live_table;
mod memory_events;
mod named;
mod outbox;
mod prober;
mod process_exits;
mod proxy;
mod world;

pub use self::cgroups::{Cgroups, Look};
pub use self::container_logs::{ContainerLogs, CurrentContainers};
pub use self::containers::{Containers, ContainersError, Hindrance};
pub use self::desired_state::{DesiredStateSink, Refusal};
pub use self::events::EventFeed;
pub use self::images::Images;
pub use self::live_table::LiveTablePublisher;
pub use self::memory_events::MemoryEvents;
pub use self::named::Named;
pub use self::outbox::Outbox;
pub use self::prober::Prober;
pub use self::process_exits::ProcessExits;
pub use self::proxy::{Proxy, ProxyError, Reading, RefusedRoute, RouteFiles};
pub use self::world::World;
