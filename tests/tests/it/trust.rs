//! Keys, certificates and epochs of a real coordinator and a real agent: what is rotated, renewed,
//! restored and copied, while apps serve.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::{Api, request};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::{Lease, PortOf, World};
use jiff::Timestamp;
use nix::sys::signal::Signal;

const HOST: &str = "container-host-1";
const PATIENCE: Duration = Duration::from_mins(1);

/// A live app, to show that each fault leaves it alone.
async fn with_app(world: &World) -> anyhow::Result<(Product<'_>, Api)> {
    let product = Product::up(world, Options::default()).await?;
    product.publish_images(false).await?;
    let api = product.operator("ada").await?;
    deploy(&api, "before").await?;
    Ok((product, api))
}

async fn deploy(api: &Api, name: &str) -> anyhow::Result<()> {
    let made = api.create(&request(name, IMAGE, PORT)).await?;
    api.reaches(&made.id, Status::Running, 1).await.map(drop)
}

async fn serves(product: &Product<'_>, name: &str) -> anyhow::Result<()> {
    let answer = product.edge()?.get(&format!("{name}.{ZONE}"), "/").await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// Certificates valid for seconds from now on, and a host that has joined to get one.
async fn short_certificates(product: &Product<'_>, hours: f64) -> anyhow::Result<()> {
    let path = product.coordinator_config();
    let text = fs::read_to_string(&path)?;
    let short = format!("[hosts]\ncertificate_hours = {hours}\n");
    fs::write(&path, text.replacen("[hosts]\n", &short, 1))?;
    product.world.signal("coordinator", Signal::SIGKILL)?;
    poll::until("the coordinator", PATIENCE, async || {
        let reply = product.api()?.call(reqwest::Method::GET, "/health", None).await?;
        ensure!(reply.status == 200);
        Ok(())
    })
    .await?;
    join_again(product, &["host", "add", HOST]).await
}

/// Joins again with the token that a command of the coordinator prints.
async fn join_again(product: &Product<'_>, command: &[&str]) -> anyhow::Result<()> {
    let layout = product.world.layout();
    let printed = product.coordinator_command(command)?;
    let token = printed.split_whitespace().find(|word| word.starts_with("buddo_join_"));
    let coordinator = format!("https://{}", layout.address(PortOf::Hosts));
    let advertise = layout.address(PortOf::Agent).to_string();
    product.agent_command(&[
        "join",
        "--force",
        "--coordinator",
        &coordinator,
        "--advertise",
        &advertise,
        "--token",
        token.context("no token was printed")?,
    ])?;
    let starts = product.world.service("agent")?.starts;
    product.world.signal("agent", Signal::SIGKILL)?;
    product.agent_is_back(starts).await
}

async fn listed(product: &Product<'_>, what: &str) -> anyhow::Result<()> {
    poll::until(what, PATIENCE, async || {
        let list = product.coordinator_command(&["host", "list"])?;
        ensure!(list.contains(what), "{list}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the real host's clock is what it goes by")]
async fn fm_40_a_host_with_an_expired_certificate_renews_with_its_key() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let (product, api) = with_app(world).await?;
        short_certificates(&product, 0.0025).await?;
        listed(&product, " reachable").await?;
        // It renews by itself, many times over in a minute.
        let certificate = world.layout().path("agent/host.pem");
        let first = fs::read(&certificate)?;
        poll::until("a renewal", PATIENCE, async || {
            ensure!(fs::read(&certificate)? != first);
            Ok(())
        })
        .await?;
        deploy(&api, "renewed").await?;
        world.stop("agent", Signal::SIGKILL).await?;
        listed(&product, "its certificate expired").await?;
        // A certificate is valid for all of its last second: the host must not come back within it.
        let expired = Timestamp::now();
        poll::until("that second's end", PATIENCE, async || {
            ensure!(Timestamp::now().as_second() > expired.as_second() + 1);
            Ok(())
        })
        .await?;
        let last = fs::read(&certificate)?;
        for app in ["before", "renewed"] {
            serves(&product, app).await?;
        }
        product.keep_agent().await?;
        deploy(&api, "again").await?;
        ensure!(fs::read(&certificate)? != last, "it was let in with an expired certificate");
        serves(&product, "again").await
    })
    .await
}

#[tokio::test]
async fn fm_41_a_copied_state_directory_locks_the_host_out_until_a_rejoin() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let (product, api) = with_app(world).await?;
        short_certificates(&product, 0.005).await?;
        let path = world.layout().path("agent/host.pem");
        let copy = fs::read(&path)?;
        poll::until("a renewal", PATIENCE, async || {
            ensure!(fs::read(&path)? != copy);
            Ok(())
        })
        .await?;
        // What an earlier clone would start with.
        world.stop("agent", Signal::SIGKILL).await?;
        write_as_owner(world, &path, &copy)?;
        product.keep_agent().await?;
        listed(&product, "LOCKED: there are two copies").await?;
        poll::until("the agent's words", PATIENCE, async || {
            let status = product.agent_command(&["status"])?;
            ensure!(status.contains("locked this host out"), "{status}");
            ensure!(status.contains("host unlock container-host-1"), "{status}");
            Ok(())
        })
        .await?;
        serves(&product, "before").await?;
        let added = product.coordinator_command(&["host", "add", HOST]).unwrap_err();
        ensure!(format!("{added:#}").contains("host unlock"), "{added:#}");
        join_again(&product, &["host", "unlock", HOST]).await?;
        listed(&product, " reachable").await?;
        deploy(&api, "after").await?;
        serves(&product, "after").await
    })
    .await
}

fn write_as_owner(world: &World, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes)?;
    world.owner().own(path)
}

#[tokio::test]
async fn fm_42_signing_key_and_ca_are_rotated_during_deploys() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let (product, api) = with_app(world).await?;
        short_certificates(&product, 0.02).await?;
        listed(&product, " reachable").await?;
        for kind in ["key", "ca"] {
            let old = product.coordinator_command(&[kind, "list"])?;
            let old = old.split_whitespace().next().context("no key is listed")?.to_owned();
            let new = product.coordinator_command(&[kind, "rotate"])?;
            deploy(&api, &format!("{kind}-rotated")).await?;
            poll::until("the host to move", Duration::from_mins(2), async || {
                let list = product.coordinator_command(&[kind, "list"])?;
                ensure!(!list.contains("behind: "), "{list}");
                Ok(())
            })
            .await?;
            product.coordinator_command(&[kind, "retire", &old])?;
            let left = product.coordinator_command(&[kind, "list"])?;
            ensure!(left.contains(new.trim()) && !left.contains(&old), "{left}");
            deploy(&product_api(&product, &api, kind).await?, &format!("{kind}-retired")).await?;
        }
        // A restarted agent without its database knows whom to trust.
        world.stop("agent", Signal::SIGKILL).await?;
        for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
            let _ = fs::remove_file(world.layout().path("agent").join(name));
        }
        product.keep_agent().await?;
        let api = product_api(&product, &api, "ca").await?;
        deploy(&api, "database-lost").await?;
        serves(&product, "before").await
    })
    .await
}

/// The API as the same operator; its certificate is from the new CA once that is the only one.
async fn product_api(product: &Product<'_>, api: &Api, kind: &str) -> anyhow::Result<Api> {
    if kind == "key" {
        return Ok(api.clone());
    }
    poll::until("the API by the new CA", PATIENCE, async || {
        product.api()?.log_in("ada@example.com", "a-strong-password-of-ada").await
    })
    .await
}

#[tokio::test]
async fn fm_20_a_restored_coordinator_relearns_the_state_of_its_hosts() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        // The backup contains the app, but not its outcome.
        world.stop("agent", Signal::SIGKILL).await?;
        let kept = api.create(&request("kept", IMAGE, PORT)).await?;
        world.stop("coordinator", Signal::SIGTERM).await?;
        let folder = world.layout().path("coordinator");
        let database = ["coordinator.db", "coordinator.db-wal", "coordinator.db-shm"];
        let backup: Vec<_> = database
            .iter()
            .filter_map(|name| fs::read(folder.join(name)).ok().map(|b| (name, b)))
            .collect();
        product.keep_coordinator().await?;
        product.keep_agent().await?;
        api.reaches(&kept.id, Status::Running, 1).await?;
        deploy(&api, "forgotten").await?;

        // The agent keeps running: a restarted one would have something new to report.
        world.stop("coordinator", Signal::SIGKILL).await?;
        for name in database {
            let _ = fs::remove_file(folder.join(name));
        }
        for (name, bytes) in &backup {
            write_as_owner(world, &folder.join(name), bytes)?;
        }
        product.keep_coordinator().await?;
        // It has done and reported all of this, and was acknowledged: it reports it again.
        api.reaches(&kept.id, Status::Running, 1).await?;
        listed(&product, "epoch raise").await?;
        product.coordinator_command(&["epoch", "raise"])?;
        serves(&product, "kept").await?;
        poll::until("the app that the backup does not know to be gone", PATIENCE, async || {
            let containers = product.containers()?;
            ensure!(containers.len() == 1, "{containers:?}");
            Ok(())
        })
        .await?;
        deploy(&api, "after").await
    })
    .await
}
