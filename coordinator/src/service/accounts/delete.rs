//! Account deletion.

use std::sync::Arc;

use super::AccountError;
use super::proof::{self, Repeated};
use crate::auth::session::Session;
use crate::service::{deployments, teams};
use crate::state::AppState;
use crate::store::contract::{AccountAct, MailKind};

/// Deletes the account in one transaction: its deployments are destroyed, it leaves its
/// organisations, all logins and tokens end, and personal data is erased. Audit logs keep its id.
pub async fn delete_account(
    state: &AppState,
    session: Session,
    repeated: Repeated,
) -> Result<(), AccountError> {
    let account = session.account;
    proof::again(state, &account, repeated).await?;
    let (id, now, services) = (account.id, state.clock.now(), Arc::clone(state));
    let destroyed = state
        .store
        .write(move |tables| {
            tables.account(id)?.ok_or(AccountError::Void)?;
            let destroyed = deployments::destroy_all(tables, &services, id)?;
            teams::leave_all(tables, id, now)?;
            tables.end_everything(id, now)?;
            tables.queue_mail(id, MailKind::AccountDeleted, Some(&account.email), now)?;
            tables.erase_account(id, now)?;
            tables.insert_account_act(id, AccountAct::Deleted, now, None)?;
            Ok::<_, AccountError>(destroyed)
        })
        .await?;
    deployments::announce_destroyed(state, &destroyed);
    state.mail_due.notify_one();
    Ok(())
}
