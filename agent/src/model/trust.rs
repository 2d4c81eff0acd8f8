//! The trust roots of this host, checked: keys that sign documents, and host CAs.
//!
//! ```text
//! join ─► identity.json ─┐
//! document ─► agent.db ──┴─► TrustRoots ─► desired state (whose documents),
//!                                          server and renewal (whose TLS)
//! ```
//!
//! The database decides, because it stores a document and its trust in one commit; `identity.json`
//! follows it, so that a host that lost its database still knows whom to trust.

use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::signed::{PinnedKeyError, Verifier};
use buddo_shared::model::id::HostId;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// Keys and CAs that are whole and usable.
#[derive(Debug, Clone)]
pub struct TrustRoots {
    wire: Trust,
    verifier: Verifier,
    cas: Vec<CertificateDer<'static>>,
}

/// Why trust roots are not usable.
#[derive(Debug, thiserror::Error)]
pub enum TrustRootsError {
    /// There is no signing key or no CA.
    #[error("a trust root is missing: a signing key and a host CA are needed")]
    Empty,
    /// A signing key is malformed.
    #[error("a trusted signing key is invalid")]
    Key(#[from] PinnedKeyError),
    /// A CA is not a PEM certificate.
    #[error("a trusted host CA is not in PEM form")]
    Pem(#[source] pem::Error),
    /// A CA is a certificate that cannot verify anything.
    #[error("a trusted host CA is not a usable certificate")]
    Ca(#[source] rustls::Error),
}

impl TrustRoots {
    /// Checks `trust`, for documents addressed to `host`.
    pub fn new(host: HostId, trust: Trust) -> Result<Self, TrustRootsError> {
        if trust.signing_keys.is_empty() || trust.cas.is_empty() {
            return Err(TrustRootsError::Empty);
        }
        let verifier = Verifier::new(host, &trust.signing_keys)?;
        let parse = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes());
        let cas: Vec<_> =
            trust.cas.iter().map(parse).collect::<Result<_, _>>().map_err(TrustRootsError::Pem)?;
        let mut roots = RootCertStore::empty();
        for ca in &cas {
            roots.add(ca.clone()).map_err(TrustRootsError::Ca)?;
        }
        Ok(Self { wire: trust, verifier, cas })
    }

    /// In wire form.
    pub fn wire(&self) -> &Trust {
        &self.wire
    }

    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The CAs, the one that issues certificates now first.
    pub fn cas(&self) -> &[CertificateDer<'static>] {
        &self.cas
    }

    /// The CAs as roots for TLS.
    pub fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for ca in &self.cas {
            roots.add(ca.clone())?;
        }
        Ok(roots)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use buddo_shared::host_wire::signed::Signer;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    /// Some CA's certificate.
    pub(crate) fn some_ca() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn empty_or_malformed_trust_roots_are_refused() {
        let host = HostId::new(uuid::Uuid::from_u128(1));
        let keys = || vec![Signer::generate().unwrap().public().clone()];
        let trust_roots = |signing_keys, cas| TrustRoots::new(host, Trust { signing_keys, cas });
        assert!(trust_roots(keys(), vec![some_ca(), some_ca()]).is_ok());
        assert!(matches!(trust_roots(vec![], vec![some_ca()]), Err(TrustRootsError::Empty)));
        assert!(matches!(trust_roots(keys(), vec![]), Err(TrustRootsError::Empty)));
        assert!(matches!(
            trust_roots(keys(), vec!["a CA".to_owned()]),
            Err(TrustRootsError::Pem(_))
        ));
        let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        assert!(matches!(trust_roots(keys(), vec![some_ca(), noise]), Err(TrustRootsError::Ca(_))));
    }
}
