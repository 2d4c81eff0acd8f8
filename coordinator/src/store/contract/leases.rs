//! Leases: which coordinator pushes to a host.

use std::time::Duration;

use buddo_shared::model::id::HostId;
use jiff::Timestamp;
use uuid::Uuid;

use super::Result;

/// Who may push to a host, and until when by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub holder: Uuid,
    pub expires_at: Timestamp,
}

/// Access to leases. All times are the database's: coordinators on several machines agree on it,
/// and none has to trust the clock of another.
pub trait Leases {
    /// Takes the lease if nobody else holds it, or renews the holder's own. Returns whose it is
    /// now.
    fn acquire_lease(&mut self, host: HostId, holder: Uuid, ttl: Duration) -> Result<Lease>;
    /// Renews all leases of a holder and returns their hosts. One that has expired is still the
    /// holder's as long as nobody has taken it.
    fn renew_leases(&mut self, holder: Uuid, ttl: Duration) -> Result<Vec<HostId>>;
    /// The lease of a host, unless it has expired.
    fn lease(&self, host: HostId) -> Result<Option<Lease>>;
    /// The leases of all hosts, except those that have expired.
    fn leases(&self) -> Result<Vec<(HostId, Lease)>>;
    /// Gives up the lease if it is this holder's.
    fn release_lease(&mut self, host: HostId, holder: Uuid) -> Result<()>;
    /// Gives up all leases of a holder.
    fn release_leases(&mut self, holder: Uuid) -> Result<()>;
}
