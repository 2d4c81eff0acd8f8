//! All deployments that an account answers for, at once.

use buddo_shared::id::{AccountId, DeploymentId, HostId};

use super::act::{DESTROY, carry_out, take_away};
use super::{DeployError, announce};
use crate::access;
use crate::state::{AppState, Services};
use crate::store::Tables;
use crate::store::contract::{Deployment, Page};

/// Deployments that are looked at in one go.
const BATCH: u32 = 100;

/// Destroys every deployment that the account answers for, as its owner could one by one. Within the caller's
/// transaction; after it, [`announce_destroyed`] tells the hosts.
pub(crate) fn destroy_all(
    tables: &mut dyn Tables,
    services: &Services,
    account: AccountId,
) -> Result<Vec<(HostId, DeploymentId)>, DeployError> {
    let check = access::of_ending(account);
    let mut destroyed = Vec::new();
    loop {
        // What is destroyed is not listed any more.
        let some = tables.deployments_of(account, Page { limit: BATCH, after: None })?;
        if some.is_empty() {
            return Ok(destroyed);
        }
        for deployment in some {
            let id = deployment.id;
            let act = |tables: &mut dyn Tables, services: &Services, d: &mut Deployment| {
                take_away(tables, services.clock.now(), d)?;
                Ok(None)
            };
            let (_, host) = carry_out(tables, services, check, id, DESTROY, act)?;
            destroyed.push((host, id));
        }
    }
}

/// Wakes those who are concerned, after the commit.
pub(crate) fn announce_destroyed(state: &AppState, destroyed: &[(HostId, DeploymentId)]) {
    for &(host, id) in destroyed {
        announce(state, host, id);
        state.live.forget(id);
    }
}
