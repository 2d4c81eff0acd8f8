//! The services of a world: their files, their command lines, and when they are ready.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::layout::PortOf;
use super::protocol::{Request, Service};
use super::supervisor::Supervisor;
use super::{PATIENCE, World};
use crate::{poll, unix_http};

/// The package's settings for Podman, so that what is tested and measured runs as installed.
const PACKAGED: &str = include_str!("../../../systemd/containers.conf.d/buddo.conf");

/// Where they are, beside the administrator's.
const DROP_IN: &str = "containers.conf.d";

/// The world's own, read after the package's: there is no systemd here.
const OF_WORLD: &str = "containers.conf.d/world.conf";

impl World {
    /// The supervisor, which init becomes.
    pub(super) fn supervisor(&self) -> Supervisor {
        Supervisor {
            control: self.layout.control(),
            logs: self.layout.path("log"),
            env: self.env(),
            user: (self.owner.uid.as_raw(), self.owner.gid.as_raw()),
            held_udp: self.layout.address(PortOf::Dns),
            held_tcp: self.layout.address(PortOf::Ask),
        }
    }

    /// Starts a service and keeps it running; one that already runs is left alone.
    pub fn keep(&self, name: &str, argv: &[&str], env: &[(&str, &str)]) -> anyhow::Result<()> {
        self.keep_service(name, argv, env, false)
    }

    /// [`keep`](Self::keep), with the held sockets if it asks for them.
    pub fn keep_service(
        &self,
        name: &str,
        argv: &[&str],
        env: &[(&str, &str)],
        held_sockets: bool,
    ) -> anyhow::Result<()> {
        let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let argv = argv.iter().map(|&text| text.to_owned()).collect();
        let service = Service { name: name.to_owned(), argv, env: own(env), held_sockets };
        self.ask(&Request::Keep(service)).map(drop)
    }

    /// What only Podman's service is told to listen on.
    pub(super) fn podman_address(&self) -> String {
        format!("unix://{}", self.layout.path("run/podman.sock").display())
    }

    /// Podman's API on `run/podman.sock`, with no idle timeout. Its log names every call, as that of
    /// its stock unit does.
    pub(super) async fn keep_podman(&self) -> anyhow::Result<()> {
        let socket = self.layout.path("run/podman.sock");
        let address = self.podman_address();
        let argv = ["podman", "--log-level=info", "system", "service", "--time=0", &address];
        self.keep("podman", &argv, &[])?;
        poll::until("Podman's API", PATIENCE, async || {
            let (status, _) = unix_http::get(&socket, "/_ping").await?;
            ensure!(status == 200, "status {status}");
            Ok(())
        })
        .await
    }

    /// An OCI registry on loopback, without TLS or accounts.
    pub(super) async fn keep_registry(&self) -> anyhow::Result<()> {
        let folder = self.layout.path("registry");
        let file = folder.join("config.yml");
        let address = self.layout.address(PortOf::Registry);
        let text = format!(
            "version: 0.1\n\
             log: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"{address}\"}}\n",
            folder.display()
        );
        fs::write(&file, text)?;
        self.keep("registry", &["docker-registry", "serve", &file.to_string_lossy()], &[])?;
        self.connects("the registry", PortOf::Registry).await
    }

    /// Pebble, an ACME authority that validates for real, and the DNS it asks: every name is
    /// 127.0.0.1.
    pub async fn keep_acme(&self) -> anyhow::Result<()> {
        let folder = self.layout.path("acme");
        let port = |port| self.layout.port(port);
        let address = |port| self.layout.address(port).to_string();
        self.write_acme_certificate(&folder)?;
        let config = serde_json::json!({ "pebble": {
            "listenAddress": address(PortOf::Acme),
            "managementListenAddress": address(PortOf::AcmeAdmin),
            "certificate": folder.join("pebble.pem"),
            "privateKey": folder.join("pebble.key"),
            "httpPort": port(PortOf::EdgeHttp),
            "tlsPort": port(PortOf::Edge),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = folder.join("pebble.json");
        fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        let (dns, admin) = (address(PortOf::AcmeDns), address(PortOf::AcmeDnsAdmin));
        self.keep(
            "challtestsrv",
            &[
                "pebble-challtestsrv",
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-dns01",
                &dns,
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-management",
                &admin,
            ],
            &[],
        )?;
        // No random waits before a validation, no nonces refused at random, each order validated.
        let env = [
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_WFE_NONCEREJECT", "0"),
            ("PEBBLE_AUTHZREUSE", "0"),
        ];
        let argv = ["pebble", "-config", &file.to_string_lossy(), "-dnsserver", &dns];
        self.keep("pebble", &argv, &env)?;
        self.connects("pebble", PortOf::Acme).await?;
        self.write_acme_root(&folder).await
    }

    /// Pebble issues from a new root at each start.
    async fn write_acme_root(&self, folder: &Path) -> anyhow::Result<()> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pem = fs::read(folder.join("pebble.pem"))?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .timeout(PATIENCE)
            .build()?;
        let url = format!("https://localhost:{}/roots/0", self.layout.port(PortOf::AcmeAdmin));
        let root = client.get(url).send().await.context("pebble returned no root")?;
        Ok(fs::write(folder.join("root.pem"), root.error_for_status()?.text().await?)?)
    }

    fn write_acme_certificate(&self, folder: &Path) -> anyhow::Result<()> {
        if folder.join("pebble.pem").exists() {
            return Ok(());
        }
        let key = rcgen::KeyPair::generate()?;
        let params = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        let certificate = params.self_signed(&key)?;
        for (name, text) in [("pebble.key", key.serialize_pem()), ("pebble.pem", certificate.pem())]
        {
            let path = folder.join(name);
            fs::write(&path, text)?;
            self.owner.own(&path)?;
        }
        Ok(())
    }

    /// Waits until a TCP connection to a port of this world succeeds.
    pub async fn connects(&self, what: &str, port: PortOf) -> anyhow::Result<()> {
        let address = self.layout.address(port);
        poll::until(what, PATIENCE, async || {
            tokio::net::TcpStream::connect(address)
                .await
                .map(drop)
                .with_context(|| format!("nothing answers on {address}"))
        })
        .await
    }

    /// The settings of Podman that the world, or a test in it, decides.
    pub fn podman_settings(&self) -> PathBuf {
        self.layout.path("home/.config/containers").join(OF_WORLD)
    }

    /// Podman's files. The published registry names lead to the local registry: the platform's
    /// own always, Docker Hub's for images that are present, so that nothing needs the internet;
    /// GitHub's to where a test may serve one that misbehaves.
    pub(super) fn write_container_configuration(&self) -> anyhow::Result<()> {
        let registry = self.layout.address(PortOf::Registry);
        let moody = self.layout.address(PortOf::Spare);
        let files = [
            ("storage.conf", "[storage]\ndriver = \"overlay\"\n".to_owned()),
            ("containers.conf.d/buddo.conf", PACKAGED.to_owned()),
            (
                OF_WORLD,
                "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n".to_owned(),
            ),
            (
                "registries.conf",
                format!(
                    "[[registry]]\n\
                     prefix = \"harbor.buddo.xyz:4443\"\n\
                     location = \"{registry}\"\n\
                     insecure = true\n\n\
                     [[registry]]\n\
                     prefix = \"ghcr.io\"\n\
                     location = \"{moody}\"\n\
                     insecure = true\n\n\
                     [[registry]]\n\
                     prefix = \"docker.io\"\n\
                     location = \"docker.io\"\n\n\
                     [[registry.mirror]]\n\
                     location = \"{registry}\"\n\
                     insecure = true\n"
                ),
            ),
            ("policy.json", "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n".to_owned()),
        ];
        let home = self.layout.path("home");
        let config = home.join(".config/containers");
        fs::create_dir_all(config.join(DROP_IN))?;
        for folder in [&home.join(".config"), &config, &config.join(DROP_IN)] {
            self.owner.own(folder)?;
        }
        for (name, text) in files {
            let path = config.join(name);
            fs::write(&path, text)?;
            self.owner.own(&path)?;
        }
        Ok(())
    }
}
