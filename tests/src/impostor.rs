//! An attacker who talks to an agent as the coordinator does: with the real keys, or with wrong
//! ones. Only the coordinator's state directory makes that possible.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::host_wire::join::{COORDINATOR_NAME, host_name};
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState, ServiceSpec, Strategy};
use buddo_shared::host_wire::signed::Signer;
use buddo_shared::model::id::{DeploymentId, HostId, Revision};
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::name::Subdomain;
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::{ServiceName, SpecDigest};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use reqwest::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::product::{PORT, Product};
use crate::world::PortOf;

/// The one service of an app, new in this revision.
pub fn service(image: &str, revision: u32) -> anyhow::Result<ServiceSpec> {
    Ok(ServiceSpec {
        name: ServiceName::APP,
        revision: Revision::new(revision),
        spec: SpecDigest::from_bytes(&[0; 32]),
        replicas: 1,
        public: true,
        image: ImageReference::parse(image)?,
        digest: None,
        port: Port::try_from(i64::from(PORT))?,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 256 },
        probe: Probe::default(),
        strategy: Strategy::Rolling,
        env: None,
        registry_credentials: None,
    })
}

/// An app of that service alone, in the service's revision.
pub fn deployment(
    id: DeploymentId,
    subdomain: &str,
    service: ServiceSpec,
) -> anyhow::Result<DeploymentSpec> {
    Ok(DeploymentSpec {
        id,
        revision: service.revision,
        subdomain: Subdomain::parse(subdomain)?,
        run: RunState::Running,
        domains: Vec::new(),
        services: vec![service].try_into()?,
        auto_rollback: None,
        kept_images: Vec::new(),
    })
}

/// The keys of a coordinator, and the agent they are used against.
pub struct Impostor {
    /// The real signing key.
    pub signer: Signer,
    /// The host that the agent is.
    pub host: HostId,
    /// The zone of its documents.
    pub zone: String,
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    port: u16,
}

impl Impostor {
    /// Steals the keys of the product's coordinator.
    pub fn of(product: &Product<'_>) -> anyhow::Result<Self> {
        let layout = product.world.layout();
        let read = |name: &str| {
            let path = layout.path(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let signer = Signer::from_text(&Secret::new(read("coordinator/signing.key")?))?;
        let ca = CertificateDer::from_pem_slice(read("coordinator/ca.pem")?.as_bytes())?;
        let key = KeyPair::from_pem(&read("coordinator/ca.key")?)?;
        let issuer = Issuer::from_ca_cert_der(&ca, key)?;
        let identity: Value = serde_json::from_str(&read("agent/identity.json")?)?;
        let host = identity["host_id"].as_str().context("identity.json has no host_id")?.parse()?;
        let zone = crate::product::ZONE.to_owned();
        Ok(Self { signer, host, zone, issuer, ca, port: layout.port(PortOf::Agent) })
    }

    /// A client whose certificate, by the real CA, is for `name`.
    pub fn client_named(&self, name: &str) -> anyhow::Result<Client> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        self.client(Some((certificate.der().clone(), key)))
    }

    /// A client that the agent accepts as the coordinator.
    pub fn coordinator(&self) -> anyhow::Result<Client> {
        self.client_named(COORDINATOR_NAME)
    }

    /// A client without a certificate.
    pub fn nobody(&self) -> anyhow::Result<Client> {
        self.client(None)
    }

    fn client(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> anyhow::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let address = ([127, 0, 0, 1], self.port).into();
        Ok(Client::builder()
            .tls_backend_preconfigured(tls)
            .resolve(&host_name(self.host), address)
            .http2_prior_knowledge()
            .timeout(Duration::from_secs(30))
            .build()?)
    }

    /// Offers a document; the status and the answer's JSON.
    pub async fn offer(&self, client: &Client, envelope: Vec<u8>) -> anyhow::Result<(u16, Value)> {
        let url = format!("https://{}:{}/v1/desired-state", host_name(self.host), self.port);
        let request = client.put(url).header("content-type", "application/jose+json");
        let response = request.body(envelope).send().await.context("no answer")?;
        let status = response.status().as_u16();
        Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or_default()))
    }

    /// Offers a document that must be refused with this status and code.
    pub async fn refused(&self, envelope: Vec<u8>, status: u16, code: &str) -> anyhow::Result<()> {
        let (got, json) = self.offer(&self.coordinator()?, envelope).await?;
        ensure!(got == status && json["code"] == code, "{got} {json}, wanted {status} {code}");
        Ok(())
    }
}
