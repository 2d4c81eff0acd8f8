//! Full disks and images that are too large: what runs keeps running, the old state stays, and
//! everything recovers when there is room.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::image::{Layer, publish};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::{Lease, World};
use nix::sys::signal::Signal;
use reqwest::Method;

const PATIENCE: Duration = Duration::from_mins(1);

/// A small disk in a world, mounted over one of its folders.
struct SmallDisk<'a> {
    world: &'a World,
    filler: String,
}

impl<'a> SmallDisk<'a> {
    /// Mounts that many KiB on `folder`, in the world's own mount namespace: it ends with the
    /// world.
    fn mount(world: &'a World, folder: &Path, kib: u32) -> anyhow::Result<Self> {
        let layout = world.layout();
        let init = std::fs::read_to_string(layout.path("init.pid"))?;
        let init = init.split_whitespace().next().context("the world has no first process")?;
        let owner = world.owner();
        let options = format!("size={kib}k,mode=700,uid={},gid={}", owner.uid, owner.gid);
        let place = folder.to_string_lossy().into_owned();
        let mounted = Command::new("nsenter")
            .args(["--target", init, "--mount", "--", "mount", "-t", "tmpfs", "-o", &options])
            .args(["tmpfs", &place])
            .output()?;
        let said = String::from_utf8_lossy(&mounted.stderr);
        ensure!(mounted.status.success(), "cannot mount a small disk: {said}");
        Ok(Self { world, filler: format!("{place}/filler") })
    }

    /// Fills all that is left of it.
    fn fill(&self) -> anyhow::Result<()> {
        let to = format!("of={}", self.filler);
        // It ends for lack of room, as intended.
        let ended = self.world.exec(["dd", "if=/dev/zero", &to, "bs=1k"])?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(said.contains("No space left"), "the disk is not full: {said}");
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        self.world.exec(["rm", &self.filler]).map(drop)
    }
}

async fn serves(product: &Product<'_>, name: &str) -> anyhow::Result<()> {
    let answer = product.edge()?.get(&format!("{name}.{ZONE}"), "/").await?;
    ensure!(answer.status == 200, "{name}: {}", answer.status);
    Ok(())
}

/// Database, live table, route files and Caddy's own files are on it. While it is full a document
/// is refused and reported as such, what was live serves, even across a crash of the agent; with
/// room again the newest document is accepted without further action.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_13_an_agent_on_a_full_disk_keeps_its_state_and_recovers() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        // Only root can mount a disk of a given size.
        return Ok(());
    }
    Lease::run(async |world| {
        let disk = SmallDisk::mount(world, &world.layout().path("agent"), 6_000)?;
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let first = api.create(&request("first", IMAGE, PORT)).await?;
        api.reaches(&first.id, Status::Running, 1).await?;
        disk.fill()?;

        let second = api.create(&request("second", IMAGE, PORT)).await?;
        poll::until("the refusal in the host's status", PATIENCE, async || {
            let status = product.agent_command(&["status"])?;
            ensure!(status.contains("could not be stored"), "{status}");
            ensure!(status.contains("the old one stays in force"), "{status}");
            Ok(())
        })
        .await?;
        serves(&product, "first").await?;
        let starts = world.service("agent")?.starts;
        world.signal("agent", Signal::SIGKILL)?;
        poll::until("the agent's restart", PATIENCE, async || {
            ensure!(world.service("agent")?.starts > starts);
            Ok(())
        })
        .await?;
        serves(&product, "first").await?;
        ensure!(product.containers()?.len() == 1, "{:?}", product.containers());

        disk.free()?;
        api.reaches(&second.id, Status::Running, 1).await?;
        serves(&product, "first").await?;
        serves(&product, "second").await?;
        ensure!(!product.agent_command(&["status"])?.contains("could not be stored"));
        Ok(())
    })
    .await
}

/// The agent's disk is full, and an app crashes: the reserve makes room for the live table, the app
/// comes back, and the host warns until there is room for a reserve again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_59_the_disk_reserve_lets_a_crashed_app_recover_and_is_recreated() -> anyhow::Result<()>
{
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Lease::run(async |world| {
        let folder = world.layout().path("agent");
        let disk = SmallDisk::mount(world, &folder, 200_000)?;
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let first = api.create(&request("first", IMAGE, PORT)).await?;
        api.reaches(&first.id, Status::Running, 1).await?;
        let reserve = folder.join("reserve").to_string_lossy().into_owned();
        let is_there =
            || Ok::<_, anyhow::Error>(world.exec(["test", "-e", &reserve])?.status.success());
        ensure!(is_there()?, "there is no reserve");
        disk.fill()?;

        let name = product.containers()?.pop().context("no container")?;
        world.exec(["podman", "kill", &name])?;
        poll::until("the crashed app", PATIENCE, async || serves(&product, "first").await).await?;
        poll::until("what became of the reserve", PATIENCE, async || {
            let status = product.agent_command(&["status"])?;
            ensure!(status.contains("the reserve of 64 MiB"), "{status}");
            Ok(())
        })
        .await?;
        ensure!(!is_there()?, "it was not needed");

        disk.free()?;
        poll::until("a reserve again", PATIENCE, async || {
            let status = product.agent_command(&["status"])?;
            ensure!(is_there()? && !status.contains("the reserve of 64 MiB"), "{status}");
            Ok(())
        })
        .await?;
        serves(&product, "first").await
    })
    .await
}

/// While the coordinator's disk is full, writes are refused with a code and nothing is half done;
/// reads are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_13_a_coordinator_on_a_full_disk_refuses_writes_and_serves_reads() -> anyhow::Result<()>
{
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Lease::run(async |world| {
        let disk = SmallDisk::mount(world, &world.layout().path("coordinator"), 6_000)?;
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let first = api.create(&request("first", IMAGE, PORT)).await?;
        api.reaches(&first.id, Status::Running, 1).await?;
        disk.fill()?;

        // Free space within the database's own files is used up first.
        let mut made = 0;
        let refused = loop {
            let body = serde_json::to_value(request(&format!("more-{made}"), IMAGE, PORT))?;
            let reply = api.call(Method::POST, "/api/deploy/apps", Some(&body)).await?;
            if reply.status != 201 {
                break reply;
            }
            made += 1;
            ensure!(made < 100, "the disk is not full");
        };
        ensure!(refused.status == 503, "{refused:?}");
        ensure!(refused.json["code"] == "storage_full", "{refused:?}");
        let reply = api.call(Method::GET, "/api/deploy/apps", None).await?;
        ensure!(reply.status == 200, "{reply:?}");
        serves(&product, "first").await?;

        disk.free()?;
        let after = api.create(&request("after", IMAGE, PORT)).await?;
        api.reaches(&after.id, Status::Running, 1).await?;
        Ok(())
    })
    .await
}

/// The new version exceeds the image size limit here: it is refused with a code, what was pulled of
/// it is removed, and the old version serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_34_an_oversized_image_is_refused_and_the_old_revision_serves() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let program = world.binary("buddo-web");
        let (layer, mib) = (Layer::of_program(&program)?, 1024 * 1024);
        let quota = layer.size() / mib + 16;
        let config = product.agent_config();
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, format!("{text}\n[pull]\nmax_image_mb = {quota}\n"))?;
        let starts = world.service("agent")?.starts;
        world.signal("agent", Signal::SIGTERM)?;
        product.agent_is_back(starts).await?;

        let api = product.operator("ada").await?;
        let image = "harbor.buddo.xyz:4443/demo/grows:v1";
        publish(world, &layer, "demo/grows", "v1", &[("VERSION", "small")]).await?;
        let app = api.create(&request("grows", image, PORT)).await?;
        api.reaches(&app.id, Status::Running, 1).await?;
        let bomb = Layer::with_ballast(&program, (quota + 16) * mib)?;
        publish(world, &bomb, "demo/grows", "v1", &[("VERSION", "large")]).await?;
        api.act(&app.id, "restart").await?;
        let failed = poll::until("the refusal", PATIENCE, async || {
            let now = api.deployment(&app.id).await?;
            now.last_error.clone().context("no error yet")
        })
        .await?;
        ensure!(failed.contains("images on this host may have"), "{failed}");
        let answer = product.edge()?.get(&format!("grows.{ZONE}"), "/").await?;
        ensure!(answer.text().contains("small"), "{}", answer.text());
        let listed = world.exec(["podman", "images", "--format={{.Size}}"])?;
        let images = String::from_utf8(listed.stdout)?.lines().count();
        ensure!(images == 1, "{images} images are left");
        Ok(())
    })
    .await
}
