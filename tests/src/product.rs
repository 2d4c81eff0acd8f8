//! The product in a world: coordinator, resolver, Caddy and agent, configured, enrolled, and
//! everything a test needs to use them.
//!
//! ```text
//! coordinator ─ host add ─► token ─► agent join ─► identity ─► resolver, Caddy, agent
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::api::Api;
use crate::edge::Edge;
use crate::image::{Layer, publish};
use crate::world::{Caddy, PATIENCE, PortOf, World};
use crate::{mail, poll};

const AGENT_UNIT: &str = include_str!("../../systemd/user/buddo-agent.service");
const COORDINATOR_UNIT: &str = include_str!("../../systemd/system/buddo-coordinator.service");

/// The zone of worlds: all its names are loopback addresses to any resolver.
pub const ZONE: &str = "buddocloud.localhost";

/// The zone of worlds with an ACME authority: Caddy does not use one for names below `localhost`.
const ACME_ZONE: &str = "buddocloud.test";

/// The image that is deployed, in two versions; both answer on [`PORT`].
pub const IMAGE: &str = "harbor.buddo.xyz:4443/demo/web:v1";
pub const IMAGE_V2: &str = "harbor.buddo.xyz:4443/demo/web:v2";
/// The port that the images listen on.
pub const PORT: u16 = 8080;

/// What differs between worlds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Published rate limits and quotas, or limits beyond any test.
    pub limits: Limits,
    /// Who signs the edge's certificates.
    pub authority: Authority,
    pub caddy: Caddy,
    /// The agent listens on every address of the machine, its default.
    pub listen_everywhere: bool,
}

/// Rate limits and quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limits {
    Published,
    /// Disabled in effect.
    #[default]
    Raised,
    /// No effective rate limits, one deployment per account.
    Single,
}

/// Who signs the edge's certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authority {
    #[default]
    Internal,
    /// Pebble, by ACME with real validation.
    Acme,
}

/// The product, up in a world.
#[derive(Debug)]
pub struct Product<'a> {
    /// The world it is in.
    pub world: &'a World,
    options: Options,
}

impl<'a> Product<'a> {
    /// Starts everything that is not running, and enrols the host if needed.
    pub async fn up(world: &'a World, options: Options) -> anyhow::Result<Self> {
        let product = Self { world, options };
        if options.authority == Authority::Acme {
            world.keep_acme().await?;
        }
        product.write_configuration()?;
        product.keep_coordinator().await?;
        product.enrol()?;
        product.keep_resolver()?;
        product.keep_caddy().await?;
        product.keep_agent().await?;
        Ok(product)
    }

    /// Stores the web app in the registry, under every name that the pages, the demo and the
    /// tests deploy.
    pub async fn publish_images(&self, docker_hub_stand_in: bool) -> anyhow::Result<()> {
        let layer = Layer::of_program(&self.world.binary("buddo-web"))?;
        for (name, tag, port) in [
            ("demo/web", "v1", "8080"),
            ("demo/web", "v2", "8080"),
            ("operators/my-app", "latest", "8080"),
        ] {
            let version = if tag == "latest" { "v1" } else { tag };
            let env = [("VERSION", version), ("PORT", port)];
            publish(self.world, &layer, name, tag, &env).await?;
        }
        if docker_hub_stand_in {
            let env = [("VERSION", "nginx stand-in"), ("PORT", "80")];
            publish(self.world, &layer, "library/nginx", "latest", &env).await?;
        }
        Ok(())
    }

    /// Starts the coordinator unless it is running.
    pub async fn keep_coordinator(&self) -> anyhow::Result<()> {
        let config = text(&self.coordinator_config());
        let binary = text(&self.world.binary("buddo-coordinator"));
        let argv = [&*binary, "serve", "--config", &config];
        self.world.keep("coordinator", &argv, &unit_environment(COORDINATOR_UNIT))?;
        poll::until("the coordinator's health", PATIENCE, async || {
            let reply = self.api()?.call(reqwest::Method::GET, "/health", None).await?;
            ensure!(reply.status == 200, "status {}", reply.status);
            Ok(())
        })
        .await
    }

    /// Starts the resolver on the sockets held by the supervisor unless it is running.
    pub fn keep_resolver(&self) -> anyhow::Result<()> {
        let config = text(&self.agent_config());
        let binary = text(&self.world.binary("buddo-agent"));
        let argv = [&*binary, "resolver", "--config", &config];
        self.world.keep_service("resolver", &argv, &[], true)
    }

    /// Writes Caddy's main file as the package does and starts Caddy unless it is running.
    pub async fn keep_caddy(&self) -> anyhow::Result<()> {
        let file = self.caddyfile();
        self.agent_command(&["caddyfile", "--write"])?;
        let program = self.options.caddy.program()?;
        let argv = [program, "run", "--config", &text(&file), "--adapter", "caddyfile"];
        self.world.keep("caddy", &argv, &[])?;
        let admin = self.world.layout().path("run/caddy-admin.sock");
        poll::until("Caddy's admin", PATIENCE, async || {
            tokio::net::UnixStream::connect(&admin).await.map(drop).context("no connection")
        })
        .await
    }

    /// Starts the agent unless it is running.
    pub async fn keep_agent(&self) -> anyhow::Result<()> {
        let config = text(&self.agent_config());
        let binary = text(&self.world.binary("buddo-agent"));
        let argv = [&*binary, "run", "--config", &config];
        self.world.keep("agent", &argv, &unit_environment(AGENT_UNIT))?;
        self.world.connects("the agent", PortOf::Agent).await?;
        self.world.connects("the edge", PortOf::Edge).await
    }

    /// Lets the host join with a one-time token, as an administrator would.
    fn enrol(&self) -> anyhow::Result<()> {
        let identity = self.world.layout().path("agent/identity.json");
        if self.world.as_seen_inside(&identity).exists() {
            return Ok(());
        }
        let token = self.coordinator_command(&["host", "add", "container-host-1"])?;
        let token = token.split_whitespace().find(|word| word.starts_with("buddo_join_"));
        let token = token.context("`host add` printed no token")?;
        let layout = self.world.layout();
        let coordinator = format!("https://{}", layout.address(PortOf::Hosts));
        let advertise = layout.address(PortOf::Agent).to_string();
        let place = ["--coordinator", &coordinator, "--advertise", &advertise];
        self.agent_command(&[&["join"][..], &place, &["--token", token]].concat()).map(drop)
    }

    /// Runs the coordinator's command line with this world's configuration; its output.
    pub fn coordinator_command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.command("buddo-coordinator", &self.coordinator_config(), arguments)
    }

    /// Runs the agent's command line with this world's configuration; its output.
    pub fn agent_command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.command("buddo-agent", &self.agent_config(), arguments)
    }

    /// Waits until the agent has been started more than `starts` times and answers.
    pub async fn agent_is_back(&self, starts: u32) -> anyhow::Result<()> {
        poll::until("the agent's next start", PATIENCE, async || {
            ensure!(self.world.service("agent")?.starts > starts);
            self.agent_command(&["status"]).map(drop)
        })
        .await
    }

    fn command(&self, name: &str, config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let mut argv = vec![text(&self.world.binary(name))];
        argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
        argv.extend(["--config".to_owned(), text(config)]);
        let output = self.world.exec(&argv)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let verb = arguments.first().copied().unwrap_or_default();
        ensure!(output.status.success(), "{name} {verb} failed: {}", said.trim());
        String::from_utf8(output.stdout).context("its output is not text")
    }

    /// The API, not logged in.
    pub fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.url(), &self.world.as_seen_inside(&self.api_ca()))
    }

    /// A new account with a verified address, logged in for deployments.
    pub async fn operator(&self, name: &str) -> anyhow::Result<Api> {
        let email = format!("{name}@example.com");
        let password = format!("a-strong-password-of-{name}");
        self.register(&email, name, &password).await?;
        self.api()?.log_in(&email, &password).await
    }

    /// Registers and verifies an account by the mail it gets.
    pub async fn register(&self, email: &str, name: &str, password: &str) -> anyhow::Result<()> {
        let api = self.api()?;
        api.register(email, name, password).await?;
        let token = poll::until("the verification mail", Duration::from_secs(30), async || {
            mail::verification_token(&self.mail_dir(), email)
        })
        .await?;
        api.verify_email(&token).await
    }

    /// The API, for tests that talk to it below HTTP.
    pub fn api_door(&self) -> anyhow::Result<Edge> {
        let ca = self.world.as_seen_inside(&self.api_ca());
        Edge::new(self.world.layout().address(PortOf::Api).into(), &ca)
    }

    /// The edge, as visitors reach it.
    pub fn edge(&self) -> anyhow::Result<Edge> {
        let ca = self.world.as_seen_inside(&self.edge_ca());
        Edge::new(self.world.layout().address(PortOf::Edge).into(), &ca)
    }

    /// The zone that subdomains are in.
    pub fn zone(&self) -> &'static str {
        match self.options.authority {
            Authority::Internal => ZONE,
            Authority::Acme => ACME_ZONE,
        }
    }

    /// Address of the API.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.world.layout().port(PortOf::Api))
    }

    /// The CA of the API's certificate.
    pub fn api_ca(&self) -> PathBuf {
        self.world.layout().path("coordinator/ca.pem")
    }

    /// The CA of the edge's certificates.
    pub fn edge_ca(&self) -> PathBuf {
        match self.options.authority {
            Authority::Internal => {
                self.world.layout().path("agent/caddy/data/pki/authorities/local/root.crt")
            }
            Authority::Acme => self.world.layout().path("acme/root.pem"),
        }
    }

    pub fn mail_dir(&self) -> PathBuf {
        self.world.layout().path("mail")
    }

    /// What `buddo-agent status` prints: the host's warnings and every app.
    pub fn status(&self) -> anyhow::Result<String> {
        self.agent_command(&["status"])
    }

    /// The agent's local socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.world.layout().path("run/agent.sock")
    }

    /// The agent's configuration file.
    pub fn agent_config(&self) -> PathBuf {
        self.world.layout().path("agent.toml")
    }

    /// The coordinator's configuration file.
    pub fn coordinator_config(&self) -> PathBuf {
        self.world.layout().path("coordinator.toml")
    }

    fn caddyfile(&self) -> PathBuf {
        self.world.layout().path("agent/caddy/Caddyfile")
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        for (path, text) in [
            (self.coordinator_config(), self.coordinator_toml()),
            (self.agent_config(), self.agent_toml()),
        ] {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn coordinator_toml(&self) -> String {
        let layout = self.world.layout();
        let raised = match self.options.limits {
            Limits::Published => String::new(),
            Limits::Raised | Limits::Single => {
                let names = [
                    "reads",
                    "writes",
                    "register",
                    "login",
                    "forgot_password",
                    "send_verification",
                    "oauth_apps",
                    "token",
                    "public",
                    "denied",
                    "device_codes",
                    "lookups",
                ];
                let rates =
                    names.map(|name| format!("{name} = {{ requests = 100000, seconds = 1 }}"));
                let most = if self.options.limits == Limits::Single { 1 } else { 5_000 };
                format!(
                    "\n[limits]\ndeployments_per_account = {most}\ndeployments_per_tier = 5000\n\
                     memory_overcommit = 100.0\n\n[rate_limits]\n{}\n",
                    rates.join("\n")
                )
            }
        };
        format!(
            "state_dir = \"{state}\"\nzone = \"{zone}\"\n\n\
             [api]\nlisten = \"{api}\"\nnames = [\"localhost\", \"127.0.0.1\"]\n\n\
             [hosts]\nlisten = \"{hosts}\"\n\n\
             [metrics]\nlisten = \"{metrics}\"\n\n\
             [mail]\ntransport = \"file\"\ndirectory = \"{mail}\"\n{raised}",
            state = layout.path("coordinator").display(),
            zone = self.zone(),
            api = layout.address(PortOf::Api),
            hosts = layout.address(PortOf::Hosts),
            metrics = layout.address(PortOf::Metrics),
            mail = self.mail_dir().display(),
        )
    }

    fn agent_toml(&self) -> String {
        let layout = self.world.layout();
        let [slot_a, slot_b, special] = layout.networks();
        let issuer = match self.options.authority {
            Authority::Internal => "kind = \"internal\"\n".to_owned(),
            Authority::Acme => format!(
                "kind = \"acme\"\ndirectory = \"https://localhost:{}/dir\"\nca_root = \"{}\"\n",
                layout.port(PortOf::Acme),
                layout.path("acme/pebble.pem").display(),
            ),
        };
        format!(
            "state_dir = \"{state}\"\nruntime_dir = \"{run}\"\nlisten = \"{listen}\"\n\n\
             # A world's cgroup has only the controllers that the machine has left for version 2.\n\
             [podman]\nsocket = \"{run}/podman.sock\"\nallow_unenforced_limits = true\n\n\
             [caddy]\nedge = \"{edge}\"\nhttp_port = {http}\nhttps_port = {https}\n\n\
             [caddy.issuer]\n{issuer}\n\
             [network]\nslot_a = \"{slot_a}\"\nslot_b = \"{slot_b}\"\nspecial = \"{special}\"\n\n\
             [resolver]\ndns = \"{dns}\"\nask = \"{ask}\"\n\n\
             # Worlds share the machine's disk, however full it is.\n\
             [disk]\nhigh_percent = 99\nfloor_mb = 64\n\n\
             [drain]\nbefore_stop_ms = {before_stop}\n",
            state = layout.path("agent").display(),
            run = layout.path("run").display(),
            listen = if self.options.listen_everywhere {
                format!("0.0.0.0:{}", layout.port(PortOf::Agent))
            } else {
                layout.address(PortOf::Agent).to_string()
            },
            edge = layout.address(PortOf::Edge),
            http = layout.port(PortOf::EdgeHttp),
            https = layout.port(PortOf::Edge),
            dns = layout.address(PortOf::Dns),
            ask = layout.address(PortOf::Ask),
            // The app's longest answers under test are shorter; production waits longer.
            before_stop = if self.options.limits == Limits::Raised { 2_000 } else { 10_000 },
        )
    }

    /// The containers of the product in this world, by name, running or not.
    pub fn containers(&self) -> anyhow::Result<Vec<String>> {
        let filter = ["podman", "ps", "--all", "--filter=label=buddo.deployment"];
        let output = self.world.exec(filter.iter().copied().chain(["--format={{.Names}}"]))?;
        if !output.status.success() {
            bail!("podman ps failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }
}

/// The environment that a unit gives its service, so that tests and measurements run as installed.
fn unit_environment(unit: &'static str) -> Vec<(&'static str, &'static str)> {
    let settings = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    settings.flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('=')).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
