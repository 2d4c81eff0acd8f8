//! What every handler and task shares.

use std::sync::Arc;

use buddo_runtime::clock::Clock;
use buddo_shared::id::DeploymentId;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::pages::Pages;
use crate::auth::access::DeployCheck;
use crate::auth::access_token::Access;
use crate::auth::authentication::Authentication;
use crate::config::Config;
use crate::crypto::ca::HostCa;
use crate::crypto::random::Random;
use crate::crypto::signing::Keyring;
use crate::crypto::vault::Vault;
use crate::domain::deployment::Deployment;
use crate::domain::identity::HashedToken;
use crate::hosts::Wake;
use crate::limits::Limiters;
use crate::limits::shown::ShownLately;
use crate::process::metrics::Metrics;
use crate::process::trusted_clock::Timekeeper;
use crate::service::live::LiveStatus;
use crate::store::Store;
use crate::store::cache::Cache;
use crate::store::contract::Reach;

/// Shared by reference; handlers get it by `State<AppState>`.
pub type AppState = Arc<Services>;

/// What frequent requests read, while it is still true.
#[derive(Debug, Default)]
pub struct Recent {
    /// Access tokens: until when they count, and what for.
    pub access: Cache<HashedToken, (Timestamp, Access)>,
    /// Deployments, and how their hosts are reached, for who may see them.
    pub status: Cache<(DeployCheck, DeploymentId), (Deployment, Option<Reach>)>,
}

/// The parts that use cases are built on.
pub struct Services {
    /// What the administrator decided.
    pub config: Config,
    /// Everything that is kept.
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Whether wall time is believed.
    pub time: Timekeeper,
    pub random: Arc<dyn Random>,
    pub vault: Arc<Vault>,
    /// What proves who somebody is.
    pub auth: Authentication,
    pub limiters: Limiters,
    /// Remembers whose tokens are, to count before they are looked up.
    pub shown: ShownLately,
    /// The pages that people see in a browser.
    pub pages: Pages,
    /// A hint: mail may be due.
    pub mail_due: Notify,
    /// Sign what hosts shall have.
    pub keys: Keyring,
    /// Signs certificates of hosts.
    pub ca: HostCa,
    /// What is known now and kept nowhere.
    pub live: LiveStatus,
    /// What was read lately.
    pub recent: Recent,
    pub metrics: Metrics,
    /// Hints for the tasks that serve hosts.
    pub wake: Wake,
    /// Cancelled when the process drains: streams end, tasks finish.
    pub drain: CancellationToken,
}
