//! When a certificate is due for renewal: certificate, clock → how long to wait. Pure.

use std::sync::Arc;
use std::time::Duration;

use buddo_shared::host_wire::join::{host_name, number_of};
use buddo_shared::model::id::HostId;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The part of a lifetime over which hosts that joined together spread their renewals.
const SPREAD: u32 = 20;
/// The longest spread when their authority is about to be retired.
const SPREAD_EARLY: Duration = Duration::from_mins(1);

/// The bytes are not a host's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LifeError {
    /// It does not parse.
    #[error("it is not an X.509 certificate with a lifetime")]
    Malformed,
    /// Its serial number does not hold the number of a host's certificate.
    #[error("its serial number is not one that a coordinator gives to hosts")]
    Serial,
}

/// What to do about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask for the next one.
    Now,
    In(Duration),
}

/// Which certificate, and its validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) number: u32,
    from: Timestamp,
    until: Timestamp,
}

impl Life {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, LifeError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| LifeError::Malformed)?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| LifeError::Malformed);
        let from = time(parsed.validity().not_before.timestamp())?;
        let until = time(parsed.validity().not_after.timestamp())?;
        let number = number_of(parsed.raw_serial()).ok_or(LifeError::Serial)?;
        if until <= from {
            return Err(LifeError::Malformed);
        }
        Ok(Self { number, from, until })
    }

    fn whole(&self) -> Duration {
        self.until.duration_since(self.from).unsigned_abs()
    }

    /// Whether `ca` issued it. Checked as of a time when it was valid: an expired one has an
    /// issuer, too.
    pub(super) fn is_by(
        &self,
        certificate: &CertificateDer<'_>,
        host: HostId,
        ca: &CertificateDer<'static>,
    ) -> bool {
        let mut roots = RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let at = self.from.as_second() + i64::try_from(self.whole().as_secs() / 2).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
        let Ok(name) = ServerName::try_from(host_name(host)) else { return false };
        roots.add(ca.clone()).is_ok()
            && WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .is_ok_and(|by| by.verify_server_cert(certificate, &[], &name, &[], at).is_ok())
    }

    /// `outdated`: for how long an authority other than its own has been issuing certificates, if
    /// one does; `spread`, 0 to 1: the place of this host in the window.
    pub(super) fn due(&self, outdated: Option<Duration>, now: Timestamp, spread: f64) -> Due {
        let window = self.whole() / SPREAD;
        // On a clock before its beginning it has no age; that clock will be set.
        let age = Duration::try_from(now.duration_since(self.from)).unwrap_or_default();
        let half = (self.whole() / 2 + window.mul_f64(spread)).saturating_sub(age);
        let early =
            outdated.map(|since| window.min(SPREAD_EARLY).mul_f64(spread).saturating_sub(since));
        let wait = early.unwrap_or(half).min(half);
        if wait.is_zero() { Due::Now } else { Due::In(wait) }
    }

    /// Whether less than a quarter of it is left.
    pub(super) fn is_short(&self, now: Timestamp) -> bool {
        let left = Duration::try_from(self.until.duration_since(now)).unwrap_or_default();
        left < self.whole() / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn life() -> Life {
        let at = |day: i64| Timestamp::from_second(day * DAY).unwrap();
        Life { number: 1, from: at(100), until: at(130) }
    }

    fn on(day: i64, spread: f64) -> Due {
        life().due(None, Timestamp::from_second(day * DAY).unwrap(), spread)
    }

    #[test]
    fn renewal_is_due_at_half_life_with_jitter() {
        let days = |days: u64| Due::In(Duration::from_hours(days * 24));
        assert_eq!(on(100, 0.0), days(15));
        assert_eq!(on(114, 0.0), days(1));
        assert_eq!(on(115, 0.0), Due::Now);
        assert_eq!(on(115, 1.0), Due::In(Duration::from_hours(36)), "the end of the window");
        assert_eq!(on(117, 1.0), Due::Now);
    }

    #[test]
    fn fm_10_a_clock_jump_never_stalls_or_abandons_renewal() {
        // Clock far ahead: renewed at once, even if it seems to have expired long ago.
        assert_eq!(on(131, 1.0), Due::Now);
        assert_eq!(on(500, 1.0), Due::Now);
        // Clock far behind: waits no longer than from its beginning on.
        assert_eq!(on(0, 0.0), on(100, 0.0));
        assert!(!life().is_short(Timestamp::UNIX_EPOCH));
        assert!(life().is_short(Timestamp::from_second(123 * DAY).unwrap()));
    }

    #[test]
    fn a_certificate_of_a_retiring_ca_is_due_within_a_minute() {
        let now = Timestamp::from_second(101 * DAY).unwrap();
        let since = |seconds| life().due(Some(Duration::from_secs(seconds)), now, 0.5);
        assert_eq!(since(0), Due::In(Duration::from_secs(30)));
        assert_eq!(since(29), Due::In(Duration::from_secs(1)));
        assert_eq!(since(30), Due::Now);
    }
}
