//! Acts of administrators: by the API with their own login, or by commands on the machine. Each act
//! is one transaction with an audit entry that names the actor.

mod accounts;
mod clients;
mod deployments;
mod hosts;
mod tier_form;
mod tiers;

use std::sync::Arc;

use crate::domain::field_error::FieldError;
use buddo_shared::model::id::{AccountId, DeploymentId, HostId};
use jiff::{SignedDuration, Timestamp};

pub use accounts::{
    Shown, account, accounts, clear_second_factor, demote, promote, resume, suspend,
};
pub use clients::{approve_client, clients, reject_client};
pub use deployments::{Destroyed, Evacuated, Means, destroy, evacuate};
pub use hosts::{bound, drain, hosts, remove_host, undrain};
pub use tier_form::{NewTier, TierChange, TierRecord};
pub use tiers::{add_tier, allow_tier, change_tier, deny_tier, tier_accounts, tiers};

use crate::auth::access::{AdminCheck, administers};
use crate::auth::session::Session;
use crate::crypto::random::Random;
use crate::service::deployments::DeployError;
use crate::service::hosts::join::HostError;
use crate::service::oauth::ApprovalError;
use crate::state::AppState;
use crate::store::contract::Account;
use crate::store::{Store, StoreError, Tables};

/// How long a login is valid for administration: a JWT stolen later is useless here.
const FRESH: SignedDuration = SignedDuration::from_hours(12);

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Some fields are invalid; each is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// The account is not an administrator.
    #[error("the account is not an administrator of this platform")]
    NotAdmin,
    /// The login is not sufficient for administration.
    #[error(
        "administration wants a login of the last 12 hours that was made with a one-time code; \
         enable one-time codes if they are not, and log in again"
    )]
    Login,
    /// No such account.
    #[error("there is no account {0}; GET /api/admin/accounts lists them")]
    NoAccount(String),
    /// No such tier.
    #[error("there is no tier {0}; GET /api/admin/tiers lists them")]
    NoTier(String),
    /// No such deployment.
    #[error("there is no deployment {0}; name it by its id or its subdomain")]
    NoDeployment(String),
    /// The deployment cannot be changed as requested.
    #[error(transparent)]
    Deployment(#[from] DeployError),
    /// Not possible for this account now.
    #[error("{0}")]
    Conflict(&'static str),
    /// The host cannot be changed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The OAuth client cannot be decided on.
    #[error(transparent)]
    Client(#[from] ApprovalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdminError {
    fn field(pointer: &str, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }
}

/// The actor, the store, and the time of an act.
#[derive(Clone)]
pub struct AdminContext {
    pub store: Store,
    pub random: Arc<dyn Random>,
    pub now: Timestamp,
    /// The administrator; `None`: a user of the machine's command line.
    pub actor: Option<AccountId>,
}

impl AdminContext {
    /// The transaction of one act. The administrator may have been demoted or suspended since the
    /// login was checked: of two who demote each other, one remains.
    async fn write<T, F>(&self, work: F) -> Result<T, AdminError>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tables, &Self) -> Result<T, AdminError> + Send + 'static,
    {
        let context = self.clone();
        self.store
            .write(move |tables| match context.actor {
                Some(actor) if !administers(tables, actor)? => Err(AdminError::NotAdmin),
                _ => work(tables, &context),
            })
            .await
    }
}

/// Deployments whose hosts get a new document.
pub type Changed = Vec<(HostId, DeploymentId)>;

/// Whether an administrator's login may administer: the account has one-time codes, and this login
/// was made with one, recently.
pub async fn authorise(state: &AppState, check: AdminCheck) -> Result<Account, AdminError> {
    let Session { account, id: login, .. } = check.into_session();
    let (id, now) = (account.id, state.clock.now());
    let found: Result<_, StoreError> =
        state.store.read(move |tables| Ok((tables.login(login)?, tables.totp(id)?))).await;
    let (Some(login), Some(totp)) = found? else { return Err(AdminError::Login) };
    let with_code = totp.enabled_at.is_some_and(|enabled| login.created_at >= enabled);
    if with_code && now.duration_since(login.created_at) < FRESH {
        Ok(account)
    } else {
        Err(AdminError::Login)
    }
}

/// The admin context of an administrator who uses the API.
pub fn admin_context(state: &AppState, admin: &Account) -> AdminContext {
    AdminContext {
        store: state.store.clone(),
        random: Arc::clone(&state.random),
        now: state.clock.now(),
        actor: Some(admin.id),
    }
}

/// Wakes the hosts and watchers concerned, after the commit.
pub fn announce(state: &AppState, changed: &[(HostId, DeploymentId)]) {
    for &(host, id) in changed {
        state.wake.host(host);
        state.live.settled(id);
    }
}
