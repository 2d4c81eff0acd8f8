//! The identity of hosts: key, certificate, trust.

use buddo_shared::host_wire::renewal::HostKey;
use buddo_shared::model::id::HostId;
use jiff::Timestamp;

use super::Result;
use crate::domain::host_trust::{Issued, Trusts};

/// The identity of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// The key it joined with, the only one accepted from it.
    pub key: Option<HostKey>,
    pub certificate: Option<Issued>,
    /// The keys and CAs it trusts; `None`: no document that sets them was acknowledged.
    pub trusts: Option<Trusts>,
    /// Since when it is locked because there are two copies of it.
    pub locked_at: Option<Timestamp>,
    /// Since when it is drained.
    pub drained_at: Option<Timestamp>,
    /// Since when it is removed from the platform.
    pub removed_at: Option<Timestamp>,
}

/// Access to host identities.
pub trait HostIdentities {
    /// Records the certificate issued to a host.
    fn set_certificate(&mut self, id: HostId, issued: &Issued) -> Result<()>;
    /// Records what the host trusts, if that was learnt other than by an acknowledgement.
    fn set_trusts(&mut self, id: HostId, trusts: &Trusts) -> Result<()>;
    /// Locks a host until it joins again.
    fn lock_host(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// Removes a host from the platform; a host that joins under its name replaces it.
    fn remove_host(&mut self, id: HostId, at: Timestamp) -> Result<()>;
    /// The number of the last act of an administrator; it rises with each.
    fn last_admin_act(&self) -> Result<u64>;
}
