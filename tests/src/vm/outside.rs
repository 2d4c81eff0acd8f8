//! What the machine finds outside: a registry and an ACME authority, on this machine's loopback,
//! which the machine reaches as 10.0.2.2.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::machine::Ports;
use crate::image::{Layer, publish_at};
use crate::poll;

/// How the machine sees this machine's loopback.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

const PATIENCE: Duration = Duration::from_secs(30);

/// The services; they end with it.
#[derive(Debug)]
pub struct Outside {
    folder: TempDir,
    registry: Child,
    registry_address: SocketAddrV4,
    acme_port: u16,
    _acme: [Child; 2],
}

impl Outside {
    /// Starts them. The authority validates names by the ports that lead to the machine's Caddy.
    pub async fn start(ports: Ports) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("buddo-vm-outside-").tempdir()?;
        let registry_address = free()?;
        let registry = start_registry(&folder, registry_address)?;
        let (acme, admin, dns) = (free()?, free()?, free_dns()?);
        let acme_processes = start_acme(&folder, acme, admin, dns, ports)?;
        connects("the registry", registry_address.into()).await?;
        connects("pebble", acme.into()).await?;
        let outside = Self {
            folder,
            registry,
            registry_address,
            acme_port: acme.port(),
            _acme: acme_processes,
        };
        outside.fetch_root(admin.port()).await?;
        Ok(outside)
    }

    /// Stores the web app as `demo/web`, in both versions.
    pub async fn publish(&self, program: &std::path::Path) -> anyhow::Result<()> {
        let layer = Layer::of_program(program)?;
        for version in ["v1", "v2"] {
            let env = [("VERSION", version), ("PORT", "8080")];
            publish_at(self.registry_address.into(), &layer, "demo/web", version, &env).await?;
        }
        Ok(())
    }

    /// Podman's settings by which the platform's registry is this one.
    pub fn registries_conf(&self) -> String {
        format!(
            "[[registry]]\n\
             prefix = \"harbor.buddo.xyz:4443\"\n\
             location = \"{GATEWAY}:{}\"\n\
             insecure = true\n",
            self.registry_address.port()
        )
    }

    /// The authority's address, as the machine's Caddy uses it.
    pub fn acme_directory(&self) -> String {
        format!("https://{GATEWAY}:{}/dir", self.acme_port)
    }

    /// What its own API's certificate is verified with.
    pub fn acme_ca(&self) -> PathBuf {
        self.folder.path().join("pebble.pem")
    }

    /// What the certificates that it issues are verified with.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// From now on nothing can be pulled.
    pub async fn stop_registry(&mut self) -> anyhow::Result<()> {
        self.registry.kill().await.context("cannot end the registry")
    }

    /// Starts the registry again, with what it held.
    pub async fn start_registry(&mut self) -> anyhow::Result<()> {
        self.registry = start_registry(&self.folder, self.registry_address)?;
        connects("the registry", self.registry_address.into()).await
    }

    /// Pebble issues from a new root at each start.
    async fn fetch_root(&self, admin: u16) -> anyhow::Result<()> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pem = fs::read(self.acme_ca())?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .timeout(PATIENCE)
            .build()?;
        let url = format!("https://localhost:{admin}/roots/0");
        let root = client.get(url).send().await.context("pebble returned no root")?;
        Ok(fs::write(self.root(), root.error_for_status()?.text().await?)?)
    }
}

fn free() -> anyhow::Result<SocketAddrV4> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr()?.port()))
}

fn free_dns() -> anyhow::Result<SocketAddrV4> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, socket.local_addr()?.port()))
}

async fn connects(what: &str, address: SocketAddr) -> anyhow::Result<()> {
    poll::until(what, PATIENCE, async || {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.map(drop).with_context(|| format!("nothing answers on {address}"))
    })
    .await
}

/// A process of this run, whose output goes to a file.
fn start(folder: &TempDir, command: &mut Command) -> anyhow::Result<Child> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let log = fs::File::create(folder.path().join(format!("{program}.log")))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot run {program}"))
}

fn start_registry(folder: &TempDir, address: SocketAddrV4) -> anyhow::Result<Child> {
    let file = folder.path().join("registry.yml");
    let text = format!(
        "version: 0.1\n\
         log: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"{address}\"}}\n",
        folder.path().join("registry").display()
    );
    fs::write(&file, text)?;
    start(folder, Command::new("docker-registry").arg("serve").arg(file))
}

fn start_acme(
    folder: &TempDir,
    acme: SocketAddrV4,
    admin: SocketAddrV4,
    dns: SocketAddrV4,
    ports: Ports,
) -> anyhow::Result<[Child; 2]> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), GATEWAY.to_string()];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    let (certificate_file, key_file) =
        (folder.path().join("pebble.pem"), folder.path().join("pebble.key"));
    fs::write(&certificate_file, certificate.pem())?;
    fs::write(&key_file, key.serialize_pem())?;
    let config = serde_json::json!({ "pebble": {
        "listenAddress": acme.to_string(),
        "managementListenAddress": admin.to_string(),
        "certificate": certificate_file,
        "privateKey": key_file,
        "httpPort": ports.http,
        "tlsPort": ports.https,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
    }});
    let file = folder.path().join("pebble.json");
    fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
    let mut names = Command::new("pebble-challtestsrv");
    names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &dns.to_string()]);
    names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
    names.args(["-management", &free()?.to_string()]);
    let mut pebble = Command::new("pebble");
    pebble.arg("-config").arg(file).args(["-dnsserver", &dns.to_string()]);
    // No random waits before a validation, no nonces refused at random, each order validated.
    pebble.envs([
        ("PEBBLE_VA_NOSLEEP", "1"),
        ("PEBBLE_WFE_NONCEREJECT", "0"),
        ("PEBBLE_AUTHZREUSE", "0"),
    ]);
    Ok([start(folder, &mut names)?, start(folder, &mut pebble)?])
}

/// Fails if the programs that stand outside are not installed.
pub fn available() -> anyhow::Result<()> {
    for program in ["docker-registry", "pebble", "pebble-challtestsrv"] {
        let found = std::env::var_os("PATH").is_some_and(|paths| {
            std::env::split_paths(&paths).any(|path| path.join(program).exists())
        });
        ensure!(found, "{program} is not installed; run `scripts/install-packages --vm`");
    }
    Ok(())
}
