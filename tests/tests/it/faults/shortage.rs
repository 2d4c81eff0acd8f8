//! A host that lacks what it takes to start a container: here the kernel's keys, of which a user has
//! 200 unless somebody raises that, and crun takes one for each container unless told not to.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, PORT};
use buddo_tests::world::{Lease, World};
use reqwest::Method;

use super::{Live, PATIENCE, processes, run};

/// `add_key(2)` until the kernel refuses, and again whenever it has collected keys that nobody holds
/// any more; all are held until standard input ends.
const HOARD: &str = r#"
import ctypes, platform, select, sys
add_key = {"x86_64": 248, "aarch64": 217}[platform.machine()]
libc, process_keyring, count = ctypes.CDLL(None), -2, 0
def take():
    global count
    while libc.syscall(add_key, b"user", b"hoard-%d" % count, b"x", 1, process_keyring) > 0:
        count += 1
take()
print(count, flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    take()
"#;

/// All keys that the world's user may have.
struct Hoard(Child);

impl Hoard {
    fn take(world: &World) -> anyhow::Result<Self> {
        let mut command = world.command();
        command.args(["python3", "-c", HOARD]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot run python3 in the world")?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut said)?;
        let hoard = Self(child);
        let count: u32 = said.trim().parse().context("it hoards no keys")?;
        ensure!(count > 0, "there were no keys left to take");
        Ok(hoard)
    }

    /// Releases all of them.
    fn end(mut self) -> anyhow::Result<()> {
        drop(self.0.stdin.take());
        self.0.wait().map(drop).context("it does not end")
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn fm_56_containers_start_despite_a_full_kernel_key_quota() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let hoard = Hoard::take(world)?;
        let live = Live::up(world).await?;
        live.answers().await?;
        // Podman says so to the monitor, which says so to crun.
        ensure!(processes(world, "^/usr/bin/conmon .*--no-new-keyring")?.len() == 1);
        // All of them see the keyring of Podman's service, then: none may touch it.
        let bundle =
            run(world, &["podman", "inspect", "--format={{.OCIConfigPath}}", &live.container()?])?;
        let config = world.as_seen_inside(Path::new(bundle.trim()));
        let config: serde_json::Value = serde_json::from_slice(&fs::read(config)?)?;
        let rules = config["linux"]["seccomp"]["syscalls"].as_array().context("no profile")?;
        let names = || rules.iter().filter_map(|rule| rule["names"].as_array()).flatten();
        ensure!(names().any(|name| name == "read") && names().all(|name| name != "keyctl"));
        hoard.end()
    })
    .await
}

/// The same host with a keyring for each container, Podman's default: refusals are reported as
/// the host's own problem and retried, no app is given up, and the host gets no new ones meanwhile.
#[tokio::test]
async fn fm_56_a_host_shortage_is_reported_and_deploys_are_retried() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let home = world.layout().path("home");
        let packaged = home.join(".config/containers/containers.conf.d/buddo.conf");
        fs::write(packaged, "[containers]\nkeyring = true\n")?;
        world.kill_podman()?;
        poll::until("Podman's second start", PATIENCE, async || {
            ensure!(world.service("podman")?.starts == 2);
            run(world, &["podman", "ps"]).map(drop)
        })
        .await?;
        let live = Live::up(world).await?;

        let hoard = Hoard::take(world)?;
        let waits = live.api.create(&request("waits", IMAGE, PORT)).await?;
        live.tells(&["this host should get no new apps for now", "no kernel keys left"]).await?;
        poll::until("more refusals than an app of its own fault gets", PATIENCE, async || {
            let log = fs::read_to_string(world.layout().path("log/agent.log"))?;
            let refused = |line: &&str| line.contains(&waits.id) && line.contains("kernel keys");
            let refusals = log.lines().filter(refused).count();
            ensure!(refusals > 4, "{refusals}");
            Ok(())
        })
        .await?;
        let told = live.api.deployment(&waits.id).await?;
        ensure!(told.status != Status::Stopped, "{told:?}");
        let error = told.last_error.unwrap_or_default();
        ensure!(error.contains("the app's host has no kernel keys left"), "{error}");
        let hosts = live.product.coordinator_command(&["host", "list"])?;
        ensure!(hosts.contains("should get no new apps for now"), "{hosts}");
        let another = serde_json::to_value(request("another", IMAGE, PORT))?;
        let refused = live.api.call(Method::POST, "/api/deploy/apps", Some(&another)).await?;
        ensure!(refused.status == 503, "{refused:?}");
        live.answers().await?;

        hoard.end()?;
        let reached = live.api.reaches(&waits.id, Status::Running, 1).await?;
        ensure!(reached.last_error.is_none(), "{reached:?}");
        live.tells_no_more("should get no new apps").await?;
        poll::until("the coordinator to place apps there again", PATIENCE, async || {
            let reply = live.api.call(Method::POST, "/api/deploy/apps", Some(&another)).await?;
            ensure!(reply.status == 201, "{reply:?}");
            Ok(())
        })
        .await?;
        live.answers().await
    })
    .await
}
