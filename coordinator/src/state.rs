//! The state shared by handlers and tasks.

use std::sync::Arc;

use buddo_runtime::clock::Clock;
use buddo_shared::model::id::DeploymentId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::auth::access::DeployCheck;
use crate::auth::authentication::Authentication;
use crate::config::Config;
use crate::crypto::ca::HostCa;
use crate::crypto::random::Random;
use crate::crypto::signing::SigningKeyring;
use crate::crypto::vault::Vault;
use crate::domain::deployment::Deployment;
use crate::host_client::HostConnections;
use crate::limits::Limiters;
use crate::limits::shown::ShownLately;
use crate::live::{LiveStatus, Wake};
use crate::process::metrics::Metrics;
use crate::process::trusted_clock::Timekeeper;
use crate::store::Store;
use crate::store::cache::Cache;
use crate::store::contract::Reach;

/// Shared by reference; handlers get it as `State<AppState>`.
pub type AppState = Arc<Services>;

/// The parts that use cases are built on.
pub struct Services {
    /// The administrator's configuration.
    pub config: Config,
    /// All persistent data.
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Whether wall time is trusted.
    pub time: Timekeeper,
    pub random: Arc<dyn Random>,
    pub vault: Arc<Vault>,
    /// Authentication of accounts.
    pub auth: Authentication,
    pub limiters: Limiters,
    /// Remembers whose tokens are, to count requests before the look-up.
    pub shown: ShownLately,
    /// Hint: mail may be due.
    pub mail_due: Notify,
    /// Sign the desired state of hosts.
    pub keys: SigningKeyring,
    /// Signs host certificates.
    pub ca: HostCa,
    /// Live status that is not persisted.
    pub live: LiveStatus,
    /// Deployments read recently and how their hosts are reached, for principals that may see them.
    pub status_cache: Cache<(DeployCheck, DeploymentId), (Deployment, Option<Reach>)>,
    pub metrics: Metrics,
    /// Hints for the tasks that serve hosts.
    pub wake: Wake,
    /// The hosts that this process is connected to.
    pub connections: HostConnections,
    /// Cancelled when the process drains: streams end, tasks finish.
    pub drain: CancellationToken,
}
