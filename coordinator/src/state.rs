//! What every handler and task shares.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::ca::HostCa;
use crate::clock::Clock;
use crate::config::Config;
use crate::door::Door;
use crate::live::Live;
use crate::push::Wake;
use crate::random::Random;
use crate::sign::Keyring;
use crate::store::Store;
use crate::vault::Vault;

/// Shared by reference; handlers get it by `State<AppState>`.
pub type AppState = Arc<Services>;

/// The parts that use cases are built on.
pub struct Services {
    /// What the administrator decided.
    pub config: Config,
    /// Everything that is kept.
    pub store: Store,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
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
    /// Hints for the tasks that serve hosts.
    pub wake: Wake,
    /// Cancelled when the process drains: streams end, tasks finish.
    pub drain: CancellationToken,
}
