//! A deleted account leaves its organisations.

use buddo_shared::model::id::{AccountId, OrgId};
use jiff::Timestamp;
use serde_json::json;

use super::{TeamError, log};
use crate::store::Tables;
use crate::store::contract::OrgAct;

/// Ends every organisation that it pays for and is the only member of, with its own, and leaves the
/// others. Refused while it is responsible for
/// one with other members, whose deployments must not be destroyed with it. Its own deployments are
/// destroyed before.
pub(crate) fn leave_all(
    tables: &mut dyn Tables,
    account: AccountId,
    now: Timestamp,
) -> Result<(), TeamError> {
    for org in tables.orgs_paid_by(account)? {
        if tables.count_members(org.id)? > 1 {
            return Err(TeamError::InUse(
                "the account answers for an organisation that others are in; let another owner \
                 take it over (buddo orgs take-over ORG), or remove the members, then try again",
            ));
        }
        tables.end_org(org.id, now)?;
        log(tables, (org.id, None), account, OrgAct::OrgDeleted, now, None)?;
    }
    for (org, _) in tables.orgs_of(account)? {
        if org.personal_of.is_some() {
            continue;
        }
        let keys = tables.remove_org_member(org.id, account)?;
        let details = json!({ "account": account, "api_keys": keys });
        log(tables, (org.id, None), account, OrgAct::MemberLeft, now, Some(details))?;
    }
    tables.end_org(OrgId::new(*account.as_uuid()), now)?;
    Ok(())
}
