//! The product in the machine, as its administrator and its operators reach it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::machine::Machine;
use super::outside::Outside;
use super::ssh::{Output, Ssh};
use crate::api::Api;
use crate::edge::{Answer, Edge};
use crate::{mail, poll};

/// The zone of the apps. Caddy asks no authority for names below `localhost`.
pub const ZONE: &str = "buddocloud.test";

pub const IMAGE: &str = "harbor.buddo.xyz:4443/demo/web:v1";

/// How long an emulated machine may take for anything that is not a boot.
pub const PATIENCE: Duration = Duration::from_mins(2);

const API: &str = "https://localhost:8443";
/// Where the CA of the API is, in the machine.
const API_CA: &str = "/root/api-ca.pem";

/// The machine, what is outside of it, and files of the run.
#[derive(Debug)]
pub struct Host {
    pub machine: Machine,
    pub outside: Outside,
    folder: tempfile::TempDir,
}

/// What the kernel enforces for a container.
#[derive(Debug)]
pub struct Limits {
    pub values: BTreeMap<&'static str, String>,
    /// Where it counts what the container uses.
    pub cgroup: String,
}

impl Host {
    pub fn new(machine: Machine, outside: Outside) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("buddo-vm-files-").tempdir()?;
        Ok(Self { machine, outside, folder })
    }

    /// Commands as root.
    pub fn ssh(&self) -> Ssh {
        self.machine.ssh()
    }

    /// The number of the user that runs the apps.
    pub async fn uid(&self) -> anyhow::Result<u32> {
        let text = self.ssh().must(&["id", "-u", "buddo"]).await?;
        text.trim().parse::<u32>().context("not a user's number")
    }

    /// A command as the user that runs the apps, as `systemd/README.md` says it.
    pub async fn as_user(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{}", self.uid().await?);
        // Podman must be able to enter the folder that it is started in, which root's is not for it.
        let place = ["--chdir=/var/lib/buddo", "HOME=/var/lib/buddo", &runtime];
        let prefix = [&["runuser", "-u", "buddo", "--", "env"][..], &place[..]].concat();
        self.ssh().run_within(PATIENCE, &[&prefix[..], argv].concat()).await
    }

    /// What such a command prints, if it succeeds.
    pub async fn user_must(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.as_user(argv).await?;
        ensure!(output.code == 0, "`{}`: {}", argv.join(" "), output.text().trim());
        Ok(output.stdout)
    }

    /// `systemctl` for the user's units.
    pub async fn user_systemctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.user_must(&[&["systemctl", "--user"][..], arguments].concat()).await
    }

    /// A property of one of the user's units.
    pub async fn property(&self, unit: &str, name: &str) -> anyhow::Result<String> {
        let text = self.user_systemctl(&["show", "--value", "-p", name, unit]).await?;
        Ok(text.trim().to_owned())
    }

    /// The checks of `buddo-agent doctor` that are not ok: name, severity and what to do.
    pub async fn doctor(&self) -> anyhow::Result<(i32, Vec<(String, String, String)>)> {
        let output = self.as_user(&["buddo-agent", "doctor", "--json"]).await?;
        let json: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("doctor printed: {}", output.text().trim()))?;
        let text =
            |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let findings = json["findings"].as_array().context("no findings")?;
        let bad = findings.iter().filter(|finding| finding["severity"] != "ok");
        let rows = bad.map(|finding| {
            (text(finding, "check"), text(finding, "severity"), text(finding, "says"))
        });
        Ok((output.code, rows.collect()))
    }

    /// The API of the coordinator in the machine, not logged in.
    pub fn api(&self) -> anyhow::Result<Api> {
        let url = format!("https://127.0.0.1:{}", self.machine.ports.api);
        Api::new(&url, &self.folder.path().join("api-ca.pem"))
    }

    /// Takes the CA of the API from the coordinator, for both sides.
    pub async fn fetch_api_ca(&self) -> anyhow::Result<()> {
        let ca = self.coordinator(&["ca", "show"]).await?;
        std::fs::write(self.folder.path().join("api-ca.pem"), &ca)?;
        self.ssh().write(API_CA, &ca, "644").await
    }

    /// An administrator's command.
    pub async fn coordinator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let prefix = ["runuser", "-u", "buddo-coordinator", "--", "buddo-coordinator"];
        let config = ["--config", "/etc/buddo/coordinator.toml"];
        self.ssh().must(&[&prefix[..], &config[..], arguments].concat()).await
    }

    /// Registers an account, verifies its address, and logs `buddo` in.
    pub async fn account(&self, name: &str) -> anyhow::Result<()> {
        let email = format!("{name}@example.com");
        let api = self.api()?;
        api.register(&email, name, &password(name)).await?;
        let mails = self.folder.path().join(format!("mail-{name}"));
        let token = poll::until("the verification mail", PATIENCE, async || {
            if mails.exists() {
                std::fs::remove_dir_all(&mails)?;
            }
            self.ssh().copy_out("/var/lib/buddo-coordinator/mail", &mails).await?;
            mail::verification_token(&mails, &email)
        })
        .await?;
        api.verify_email(&token).await?;
        let output = self.buddo(name, &["login", "--email", &email]).await?;
        ensure!(output.code == 0, "buddo login: {}", output.text().trim());
        Ok(())
    }

    /// The packaged `buddo`, as one of the operators.
    pub async fn buddo(&self, operator: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let environment = [
            format!("HOME=/root/{operator}"),
            format!("BUDDO_API={API}"),
            format!("BUDDO_CA={API_CA}"),
            format!("BUDDO_PASSWORD={}", password(operator)),
        ];
        self.ssh().must(&["mkdir", "-p", "-m", "700", &format!("/root/{operator}")]).await?;
        let mut argv = vec!["env"];
        argv.extend(environment.iter().map(String::as_str));
        argv.push("buddo");
        argv.extend(arguments);
        self.ssh().run_within(Duration::from_mins(5), &argv).await
    }

    /// Deploys the web app and waits until `buddo` says that it is live.
    pub async fn deploy(&self, operator: &str, app: &str) -> anyhow::Result<()> {
        let what = ["deploy", "--name", app, "--image", IMAGE, "--port", "8080"];
        let tier = ["--tier", "buddo-starter"];
        let output = self.buddo(operator, &[&what[..], &tier[..]].concat()).await?;
        ensure!(
            output.code == 0,
            "buddo deploy exited with {}: {}",
            output.code,
            output.text().trim()
        );
        Ok(())
    }

    /// What `buddo status` tells, as its JSON.
    pub async fn status(&self, operator: &str, app: &str) -> anyhow::Result<Value> {
        let output = self.buddo(operator, &["status", app, "--json"]).await?;
        ensure!(output.code == 0, "buddo status: {}", output.text().trim());
        serde_json::from_str(&output.stdout).context("buddo status printed no JSON")
    }

    /// Visitors of the apps.
    pub fn edge(&self) -> anyhow::Result<Edge> {
        let address = ([127, 0, 0, 1], self.machine.ports.https).into();
        Edge::new(address, &self.outside.root())
    }

    /// One request to an app, over verified HTTPS.
    pub async fn visit(&self, app: &str, path: &str) -> anyhow::Result<Answer> {
        self.edge()?.get(&name(app), path).await
    }

    /// Waits until all these apps answer a visitor, and returns when the last did.
    pub async fn all_answer(&self, apps: &[&str], patience: Duration) -> anyhow::Result<Instant> {
        for app in apps {
            poll::until(&format!("an answer of {app}"), patience, async || {
                let answer = self.visit(app, "/").await?;
                ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text().trim());
                Ok(())
            })
            .await?;
        }
        Ok(Instant::now())
    }

    /// The id of the app's running container.
    async fn container(&self, operator: &str, app: &str) -> anyhow::Result<String> {
        let status = self.status(operator, app).await?;
        let id = status["id"].as_str().context("the status has no id")?;
        let filter = format!("name=buddo-{id}-");
        let listed = self
            .user_must(&["podman", "ps", "--no-trunc", "--filter", &filter, "--format={{.ID}}"])
            .await?;
        listed.lines().next().map(str::to_owned).with_context(|| format!("{app} has no container"))
    }

    /// What the kernel enforces for an app's container, read from its cgroup.
    pub async fn limits(&self, operator: &str, app: &str) -> anyhow::Result<Limits> {
        let container = self.container(operator, app).await?;
        let pid =
            self.user_must(&["podman", "inspect", "--format={{.State.Pid}}", &container]).await?;
        let file = format!("/proc/{}/cgroup", pid.trim());
        let cgroups = self.ssh().must(&["cat", &file]).await?;
        let cgroup = cgroups.trim().strip_prefix("0::").context("not cgroup v2")?;
        let cgroup = format!("/sys/fs/cgroup{cgroup}");
        let names = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"];
        let files = names.map(|name| format!("{cgroup}/{name}"));
        let argv: Vec<_> = std::iter::once("cat").chain(files.iter().map(String::as_str)).collect();
        let text = self.ssh().must(&argv).await?;
        let values = names.into_iter().zip(text.lines().map(str::to_owned)).collect();
        Ok(Limits { values, cgroup })
    }

    /// Processes that the kernel has killed because their cgroup's memory was used up, since boot.
    pub async fn memory_kills(&self) -> anyhow::Result<usize> {
        let words = ["journalctl", "-k", "-b", "-q", "--no-pager", "-o", "cat"];
        let log = self.ssh().must(&words).await?;
        Ok(log.lines().filter(|line| line.contains("Memory cgroup out of memory")).count())
    }

    /// A path for a file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// An app's name in the zone.
pub fn name(app: &str) -> String {
    format!("{app}.{ZONE}")
}

fn password(operator: &str) -> String {
    format!("a-strong-password-of-{operator}")
}
