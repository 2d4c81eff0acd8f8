//! A host's next certificate, issued only for a statement signed with its own key.
//!
//! ```text
//! number the host holds  │ is the newest        │ the previous, same request   │ lower
//! what happens           │ next one is issued   │ the same answer again        │ locked
//! ```
//!
//! Two copies of a host's state directory hold the same key. The first to renew moves on; the other
//! then names an outdated number, and from that moment it is unknown which of them is the host. So
//! neither is served until an administrator decides.

use std::sync::Arc;
use std::time::Duration;

use buddo_shared::host_wire::renewal::Renewed;
use buddo_shared::host_wire::renewal::{Binding, Claim, RenewalError, Statement};
use buddo_shared::model::id::HostId;
use serde_json::json;

use crate::crypto::ca::CaError;
use crate::domain::host_trust::Issued;
use crate::process::trusted_clock::Doubted;
use crate::state::{AppState, Services};
use crate::store::contract::{Host, HostIdentity};
use crate::store::{StoreError, Tables};

/// A certificate is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The host is unknown, was removed, or did not sign this statement for this connection.
    #[error(
        "the statement is not one of a host of this coordinator; let the host join again with a \
         token of `buddo-coordinator host add NAME`"
    )]
    Stranger(#[source] Option<RenewalError>),
    /// There are two copies of it.
    #[error(
        "there are two copies of host {0}, so neither is served: its state directory was cloned, \
         or restored from a copy. Stop the wrong one; then run `buddo-coordinator host unlock \
         {0}` and, on the right machine, `buddo-agent join --force` with the token that it prints"
    )]
    Locked(String),
    /// The certificate would have the wrong validity period.
    #[error(transparent)]
    Clock(#[from] Doubted),
    /// The certificate cannot be issued.
    #[error("the certificate cannot be made")]
    Ca(#[from] CaError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The decision on a statement.
#[derive(Debug, PartialEq, Eq)]
enum RenewalDecision {
    /// A new certificate with this number.
    Next(u32),
    /// The certificate already issued for this request.
    Again(String),
    /// There are two copies of the host.
    Copy,
}

/// Decides on a verified statement. Pure.
fn judge(newest: Option<&Issued>, statement: &Statement) -> RenewalDecision {
    let number = newest.map_or(0, |issued| issued.number);
    if statement.number < number {
        let answered = newest.and_then(|issued| issued.renewal.as_ref());
        return match answered {
            Some((request, answer))
                if statement.number + 1 == number && *request == statement.request =>
            {
                RenewalDecision::Again(answer.clone())
            }
            _ => RenewalDecision::Copy,
        };
    }
    // A higher number was issued by this coordinator before its database was restored from a
    // backup.
    statement.number.checked_add(1).map_or(RenewalDecision::Copy, RenewalDecision::Next)
}

/// Issues the next certificate to the host that signed `body` for the connection that `binding`
/// names.
pub async fn renew(state: &AppState, body: &[u8], binding: Binding) -> Result<Renewed, RenewError> {
    let claim = Claim::read(body).map_err(|error| RenewError::Stranger(Some(error)))?;
    let id = claim.host_id();
    let services = Arc::clone(state);
    let outcome = state
        .store
        .write(move |tables| {
            let host = tables.host(id)?.ok_or(RenewError::Stranger(None))?;
            let HostIdentity { key: Some(key), removed_at: None, .. } = &host.identity else {
                return Err(RenewError::Stranger(None));
            };
            let statement =
                claim.verify(key, binding).map_err(|error| RenewError::Stranger(Some(error)))?;
            if host.identity.locked_at.is_some() {
                return Ok(Outcome::Locked(host.name));
            }
            match judge(host.identity.certificate.as_ref(), &statement) {
                RenewalDecision::Again(certificate) => Ok(Outcome::Certificate(certificate)),
                RenewalDecision::Next(number) => next(tables, &services, &host, &statement, number),
                // Must be committed, so it must not be an error here.
                RenewalDecision::Copy => lock(tables, &services, host, &statement),
            }
        })
        .await?;
    match outcome {
        Outcome::Certificate(certificate) => Ok(Renewed { certificate }),
        Outcome::Next { certificate, name, number } => {
            tracing::info!(host = %id, name, number, "a host has a new certificate");
            Ok(Renewed { certificate })
        }
        Outcome::Locked(name) => {
            tracing::error!(host = %id, name, "there are two copies of a host; neither is served");
            // The connection to it ends, too.
            state.wake.host(id);
            Err(RenewError::Locked(name))
        }
    }
}

enum Outcome {
    /// The one it has asked for before.
    Certificate(String),
    Next {
        certificate: String,
        /// Of the host.
        name: String,
        number: u32,
    },
    Locked(String),
}

fn next(
    tables: &mut dyn Tables,
    services: &Services,
    host: &Host,
    statement: &Statement,
    number: u32,
) -> Result<Outcome, RenewError> {
    let key = host.identity.key.as_ref().ok_or(RenewError::Stranger(None))?;
    services.time.check()?;
    let life = services.config.hosts.certificate_life();
    let (issued, certificate) = services.ca.sign_host(host.id, key, number, life)?;
    let renewal = Some((statement.request, certificate.clone()));
    tables.set_certificate(host.id, &Issued { renewal, ..issued })?;
    Ok(Outcome::Next { certificate, name: host.name.clone(), number })
}

fn lock(
    tables: &mut dyn Tables,
    services: &Services,
    host: Host,
    statement: &Statement,
) -> Result<Outcome, RenewError> {
    let now = services.clock.now();
    tables.lock_host(host.id, now)?;
    let newest = host.identity.certificate.map(|issued| issued.number);
    let details = json!({
        "host": host.name,
        "presented_number": statement.number,
        "newest_number": newest,
    });
    tables.insert_admin_act("host_locked", now, None, &details)?;
    Ok(Outcome::Locked(host.name))
}

/// The remaining life of a certificate, if it is short; for administrators.
pub fn is_short(host: &Host, now: jiff::Timestamp, life: Duration) -> bool {
    host.identity.certificate.as_ref().is_some_and(|issued| {
        let left = Duration::try_from(issued.expires_at.duration_since(now)).unwrap_or_default();
        left < life / 4
    })
}

/// Whether `host` may be served over its connection.
pub fn is_served(host: &Host) -> Result<(), Unserved> {
    match (host.identity.removed_at, host.identity.locked_at) {
        (Some(_), _) => Err(Unserved::Removed(host.id)),
        (None, Some(_)) => Err(Unserved::Locked(host.name.clone())),
        (None, None) => Ok(()),
    }
}

/// Why a host is not served.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    /// It was removed from the platform.
    #[error("host {0} was removed")]
    Removed(HostId),
    /// There are two copies of it.
    #[error("there are two copies of host {0}; run `buddo-coordinator host unlock {0}`")]
    Locked(String),
}

#[cfg(test)]
mod tests;
