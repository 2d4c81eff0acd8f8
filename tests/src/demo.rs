//! `make demo`: world 0, an account, and an app deployed with the operator's own tool.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::poll;
use crate::product::{IMAGE, IMAGE_V2, Limits, Options, PORT, Product, ZONE};
use crate::world::{PortOf, World};

pub const NUMBER: u8 = 0;

const APP: &str = "hello";
const EMAIL: &str = "operator@example.com";
const USER: &str = "operator";

/// Where the caller finds everything: `.demo` in the folder that `make` runs in.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_dir().context("cannot determine the current folder")?.join(".demo"))
}

/// The demo that is up.
#[derive(Debug)]
pub struct Demo {
    pub url: String,
    /// What the app answered.
    pub answer: String,
    /// A command that fetches it.
    pub curl: String,
    /// The file of shell assignments.
    pub env: PathBuf,
}

/// Starts the demo, or finds it running.
pub async fn up() -> anyhow::Result<Demo> {
    let world = World::up(NUMBER).await?;
    let options = Options { limits: Limits::Published, ..Options::default() };
    let product = Product::up(&world, options).await?;
    product.publish_images(!docker_hub_answers().await).await?;
    let demo = folder()?;
    fs::create_dir_all(&demo)?;
    let password = password(&world)?;
    let env = write_env(&product, &demo, &password)?;

    let buddo = Buddo { product: &product, config: demo.join("config"), password: &password };
    buddo.log_in().await?;
    buddo.deploy()?;

    let host = format!("{APP}.{ZONE}");
    let edge = product.edge()?;
    let answer = poll::until("the app's answer", Duration::from_secs(30), async || {
        let answer = edge.get(&host, "/").await?;
        ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text());
        Ok(answer.text())
    })
    .await?;
    let url = format!("https://{host}:{}/", world.layout().port(PortOf::Edge));
    let curl = format!(
        "curl --cacert {} --connect-to {host}:443:{} https://{host}/",
        demo.join("edge-ca.pem").display(),
        world.layout().address(PortOf::Edge),
    );
    Ok(Demo { url, answer, curl, env })
}

/// Ends the demo and removes every trace of it.
pub fn down() -> anyhow::Result<()> {
    World::down(NUMBER)?;
    match fs::remove_dir_all(folder()?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove .demo")
        }
        _ => Ok(()),
    }
}

/// The account's password: random, and the same for as long as the world exists.
fn password(world: &World) -> anyhow::Result<String> {
    let path = world.layout().path("operator-password");
    if !path.exists() {
        let password = uuid::Uuid::new_v4().simple().to_string();
        fs::write(&path, password)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    fs::read_to_string(&path).context("cannot read the demo's password")
}

/// Whether images come from Docker Hub itself. If not, a stand-in takes nginx's place.
async fn docker_hub_answers() -> bool {
    let connect = tokio::net::TcpStream::connect("registry-1.docker.io:443");
    matches!(tokio::time::timeout(Duration::from_secs(2), connect).await, Ok(Ok(_)))
}

/// Copies the CA certificates to `.demo` and writes `.demo/env`.
pub fn write_env(product: &Product<'_>, demo: &Path, password: &str) -> anyhow::Result<PathBuf> {
    let copy = |from: &Path, name: &str| {
        let to = demo.join(name);
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644))?;
        anyhow::Ok(to)
    };
    let layout = product.world.layout();
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let variables = [
        ("BUDDO_URL", product.url()),
        ("BUDDO_CA", path(copy(&product.api_ca(), "api-ca.pem")?)),
        ("BUDDO_EMAIL", EMAIL.to_owned()),
        ("BUDDO_PASSWORD", password.to_owned()),
        ("BUDDO_ZONE", ZONE.to_owned()),
        ("BUDDO_EDGE", layout.address(PortOf::Edge).to_string()),
        ("BUDDO_EDGE_CA", path(copy(&product.edge_ca(), "edge-ca.pem")?)),
        ("BUDDO_IMAGE", IMAGE.to_owned()),
        ("BUDDO_IMAGE_V2", IMAGE_V2.to_owned()),
        ("BUDDO_PORT", PORT.to_string()),
        ("BUDDO_AGENT_SOCKET", path(product.agent_socket())),
        ("BUDDO_BIN", path(layout.path("bin"))),
        ("BUDDO_MAIL", path(product.mail_dir())),
    ];
    let mut text = String::new();
    for (name, value) in variables {
        ensure!(!value.contains('\''), "{name} cannot be quoted: {value}");
        text.extend([name, "='", &value, "'\n"]);
    }
    let file = demo.join("env");
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The operator's own tool, outside the world as on an operator's machine.
struct Buddo<'a> {
    product: &'a Product<'a>,
    config: PathBuf,
    password: &'a str,
}

impl Buddo<'_> {
    async fn log_in(&self) -> anyhow::Result<()> {
        if self.run(&["whoami"])?.status.success() {
            return Ok(());
        }
        if self.product.api()?.log_in(EMAIL, self.password).await.is_err() {
            self.product.register(EMAIL, USER, self.password).await?;
        }
        self.must(&["login", "--email", EMAIL]).map(drop)
    }

    fn deploy(&self) -> anyhow::Result<()> {
        let output = self.run(&["status", APP, "--json"])?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() && status["status"] == "running" {
            return Ok(());
        }
        if output.status.success() && status["status"] != "destroyed" {
            return self.must(&["deploy", "restart", APP]).map(drop);
        }
        let port = PORT.to_string();
        let tier = ["--tier", "buddo-starter"];
        let create = ["deploy", "--name", APP, "--image", IMAGE, "--port", &port];
        self.must(&[&create[..], &tier[..]].concat()).map(drop)
    }

    fn must(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = self.run(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "buddo {} failed: {}", arguments.join(" "), said.trim());
        Ok(output)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(self.product.world.binary("buddo"));
        command.args(arguments).env("BUDDO_API", self.product.url());
        command.env("BUDDO_CA", self.product.api_ca()).env("BUDDO_PASSWORD", self.password);
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(name, &self.config);
        }
        command.stdin(std::process::Stdio::null()).output().context("cannot run buddo")
    }
}
