//! State lost while apps run: nothing stops, and the state is rebuilt.

use std::time::Duration;

use anyhow::ensure;
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::{Lease, World};
use nix::sys::signal::Signal;

/// Name, process and start of every container.
fn containers(world: &World) -> anyhow::Result<String> {
    let format = "--format={{.Names}} {{.Pid}} {{.StartedAt}}";
    Ok(String::from_utf8(world.exec(["podman", "ps", "--all", format])?.stdout)?)
}

/// Fault 18. What is lost with the file: the document, the progress of each deployment, and how far
/// reports were counted.
#[tokio::test]
async fn fm_18_a_deleted_database_is_rebuilt_from_labels_and_document() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let kept = api.create(&request("kept", IMAGE, PORT)).await?;
        let parked = api.create(&request("parked", IMAGE, PORT)).await?;
        api.reaches(&kept.id, Status::Running, 1).await?;
        api.reaches(&parked.id, Status::Running, 1).await?;
        api.act(&parked.id, "stop").await?;
        api.reaches(&parked.id, Status::Stopped, 1).await?;
        let before = containers(world)?;
        let edge = product.edge()?;
        let host = format!("kept.{ZONE}");
        let serves = async || {
            let answer = edge.get(&host, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        };

        for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
            match std::fs::remove_file(world.layout().path("agent").join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)?,
                _ => {}
            }
        }
        serves().await?;
        // The agent gets no input until it has started with nothing.
        world.stop("coordinator", Signal::SIGKILL).await?;
        world.signal("agent", Signal::SIGKILL)?;
        poll::until("the agent's next start", Duration::from_secs(30), async || {
            serves().await?;
            let status = product.agent_command(&["status"])?;
            ensure!(status.contains("no document yet"), "{status}");
            Ok(())
        })
        .await?;
        ensure!(containers(world)? == before, "without a document it touches nothing");
        serves().await?;

        product.keep_coordinator().await?;
        poll::until("the document", Duration::from_mins(1), async || {
            serves().await?;
            let status = product.agent_command(&["status"])?;
            ensure!(!status.contains("no document yet"), "{status}");
            Ok(())
        })
        .await?;
        // Report numbers continue from where the coordinator is, so what happens next is accepted.
        api.act(&kept.id, "restart").await?;
        api.reaches(&kept.id, Status::Running, 2).await?;
        serves().await?;
        ensure!(api.deployment(&parked.id).await?.status == Status::Stopped);
        api.destroy(&parked.id).await?;
        poll::until("one container to be left", Duration::from_mins(1), async || {
            let left = product.containers()?;
            ensure!(left.len() == 1, "{left:?}");
            Ok(())
        })
        .await
    })
    .await
}
