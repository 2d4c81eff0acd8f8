//! What every handler and task shares.

use std::sync::Arc;

use buddo_shared::id::DeploymentId;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::access::DeployCheck;
use crate::ca::HostCa;
use crate::clock::Clock;
use crate::config::Config;
use crate::door::Door;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::push::Wake;
use crate::random::Random;
use crate::service::oauth::Access;
use crate::sign::Keyring;
use crate::store::Store;
use crate::store::contract::{Deployment, Reach};
use crate::store::memo::Memo;
use crate::timekeeper::Timekeeper;
use crate::token::HashedToken;
use crate::vault::Vault;

/// Shared by reference; handlers get it by `State<AppState>`.
pub type AppState = Arc<Services>;

/// What frequent requests read, while it is still true.
#[derive(Debug, Default)]
pub struct Recent {
    /// Access tokens: until when they count, and what for.
    pub access: Memo<HashedToken, (Timestamp, Access)>,
    /// Deployments, and how their hosts are reached, for who may see them.
    pub status: Memo<(DeployCheck, DeploymentId), (Deployment, Option<Reach>)>,
}

/// The parts that use cases are built on.
pub struct Services {
    /// What the administrator decided.
    pub config: Config,
    /// Everything that is kept.
    pub store: Store,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Whether wall time is believed.
    pub time: Timekeeper,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Secrets at rest.
    pub vault: Arc<Vault>,
    /// What decides who comes in.
    pub door: Door,
    /// Sign what hosts shall have.
    pub keys: Keyring,
    /// Signs certificates of hosts.
    pub ca: HostCa,
    /// What is known now and kept nowhere.
    pub live: Live,
    /// What was read lately.
    pub recent: Recent,
    /// What is counted.
    pub metrics: Metrics,
    /// Hints for the tasks that serve hosts.
    pub wake: Wake,
    /// Cancelled when the process drains: streams end, tasks finish.
    pub drain: CancellationToken,
}
