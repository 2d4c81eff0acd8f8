//! systemd's watchdog: it is fed only while the agent does its work.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tokio::net::UnixDatagram;

/// `WatchdogSec`, in microseconds: the loop beats each 5 s when there is nothing to do.
const WATCHDOG_USEC: &str = "6000000";
/// A feed comes within this, or the agent counts as dead: twice a third of the bound plus a beat.
const SURELY: Duration = Duration::from_secs(15);

/// systemd's end of `NOTIFY_SOCKET`.
struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ServiceManager {
    fn listen(path: PathBuf) -> anyhow::Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        Ok(Self { socket, path })
    }

    /// The next message that contains `wanted`.
    async fn hears(&self, wanted: &str, patience: Duration) -> anyhow::Result<()> {
        let mut message = [0; 4096];
        let heard = async {
            loop {
                let length = self.socket.recv(&mut message).await?;
                if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == wanted) {
                    return anyhow::Ok(());
                }
            }
        };
        let heard = tokio::time::timeout(patience, heard).await;
        heard.with_context(|| format!("no {wanted} within {patience:?}"))?
    }

    /// Discards earlier messages, which say nothing about what follows.
    fn forget(&self) {
        let mut message = [0; 4096];
        while self.socket.try_recv(&mut message).is_ok() {}
    }
}

/// Fault 4. The loop's thread is made to wait forever in the middle of its work, by the kernel: it
/// opens a pipe without a reader in place of the live table. All other tasks continue.
#[tokio::test]
async fn fm_04_a_wedged_loop_misses_the_watchdog_and_a_new_agent_continues() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let first = api.create(&request("before", IMAGE, PORT)).await?;
        api.reaches(&first.id, Status::Running, 1).await?;
        world.stop("agent", Signal::SIGTERM).await?;

        let manager = ServiceManager::listen(world.layout().path("run/notify.sock"))?;
        let config = product.agent_config();
        let argv = [&*text(&world.binary("buddo-agent")), "run", "--config", &text(&config)];
        let env = [("NOTIFY_SOCKET", &*text(&manager.path)), ("WATCHDOG_USEC", WATCHDOG_USEC)];
        world.keep("agent", &argv, &env)?;
        manager.hears("READY=1", Duration::from_mins(1)).await?;
        manager.hears("WATCHDOG=1", SURELY).await?;
        manager.hears("WATCHDOG=1", SURELY).await?;

        let trap = world.layout().path("agent/.live.json.tmp");
        nix::unistd::mkfifo(&trap, Mode::S_IRUSR | Mode::S_IWUSR)?;
        world.owner().own(&trap)?;
        let second = api.create(&request("after", IMAGE, PORT)).await?;
        // It may still be fed for what the loop did before it reached the pipe.
        let mut fed = 0;
        while manager.hears("WATCHDOG=1", SURELY).await.is_ok() {
            fed += 1;
            ensure!(fed < 4, "an agent whose loop hangs says that it lives");
        }
        // Visitors have noticed nothing.
        let answer = product.edge()?.get(&format!("before.{ZONE}"), "/").await?;
        ensure!(answer.status == 200, "{answer:?}");

        // What systemd does then.
        std::fs::remove_file(&trap)?;
        world.signal("agent", Signal::SIGABRT)?;
        api.reaches(&second.id, Status::Running, 1).await?;
        manager.forget();
        manager.hears("WATCHDOG=1", SURELY).await
    })
    .await
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
