//! What every account has to itself: an organisation with one team.

use buddo_shared::model::id::OrgId;

use crate::auth::access::own_team;
use crate::domain::identity::OrgRole;
use crate::store::contract::{NewAccount, OrgRow, TeamRow};
use crate::store::{StoreError, Tables};

/// Creates both with the account. They have its id, as the migration gave them to accounts that
/// existed before.
pub(crate) fn make_own(tables: &mut dyn Tables, account: &NewAccount) -> Result<(), StoreError> {
    let (org, at) = (OrgId::new(*account.id.as_uuid()), account.created_at);
    tables.insert_org(&OrgRow {
        id: org,
        name: account.username.to_string(),
        slug: format!("@{}", account.username.key()),
        plan: "free".to_owned(),
        personal_of: Some(account.id),
        payer: account.id,
        created_at: at,
    })?;
    tables.set_org_role(org, account.id, OrgRole::Owner, at)?;
    tables.insert_team(&TeamRow {
        id: own_team(account.id),
        org,
        name: "Default".to_owned(),
        slug: "default".to_owned(),
        created_at: at,
    })
}
