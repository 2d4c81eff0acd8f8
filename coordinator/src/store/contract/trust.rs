//! What binds a host to this coordinator: its key, its certificate, whom it trusts.

use crate::domain::host_trust::{Issued, Trusts};
use buddo_shared::id::HostId;
use buddo_shared::renewal::HostKey;
use jiff::Timestamp;

use super::Result;

/// How a host is bound to this coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// The only key that speaks for it.
    pub key: Option<HostKey>,
    pub certificate: Option<Issued>,
    /// Whom it trusts; `None`: nothing was acknowledged that said so.
    pub trusts: Option<Trusts>,
    /// Since when it is locked out, for there are two copies of it.
    pub locked_at: Option<Timestamp>,
    /// Since when it gets no further deployments.
    pub drained_at: Option<Timestamp>,
    /// Since when it is no host of this platform any more.
    pub removed_at: Option<Timestamp>,
}

/// Access to what binds hosts.
pub trait HostIdentities {
    /// Notes the certificate that a host was given.
    fn set_certificate(&mut self, id: HostId, issued: &Issued) -> Result<()>;
    /// Notes whom the host trusts, where that was learnt otherwise than by an acknowledgement.
    fn set_trusts(&mut self, id: HostId, trusts: &Trusts) -> Result<()>;
    /// Locks a host out until it joins again.
    fn lock_host(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// Takes a host off the platform; one that joins under its name takes its place.
    fn remove_host(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// The number of the last act of an administrator; it rises with each.
    fn last_admin_act(&self) -> Result<u64>;
}
