//! What an account's owner sees of it, in the answers of the published API.

use buddo_shared::api::account::{ActivityEntry, RecoveryCodes, SessionView, TotpEnrolment};
use buddo_shared::model::secret::Secret;
use uuid::Uuid;

use crate::service::accounts::Enrolment;
use crate::store::contract::{AccountActRow, LoginRow};

pub(super) fn enrolment(enrolment: Enrolment) -> TotpEnrolment {
    let Enrolment { secret, uri, picture } = enrolment;
    TotpEnrolment { secret, otpauth_uri: uri, qr_svg: picture }
}

pub(super) fn recovery_codes(recovery_codes: Vec<Secret>) -> RecoveryCodes {
    RecoveryCodes { recovery_codes }
}

/// A login, as the login `current` sees it.
pub(super) fn session(row: LoginRow, current: Uuid) -> SessionView {
    SessionView {
        current: row.id == current,
        id: row.id.to_string(),
        ip_address: row.address,
        user_agent: row.user_agent,
        inserted_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
    }
}

pub(super) fn activity(row: AccountActRow) -> ActivityEntry {
    ActivityEntry { action: row.action, inserted_at: row.at, details: row.details }
}
