//! The agent's own files: its database and the live table.

use std::fs;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::poll;
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;

use super::{Live, PATIENCE, started};

#[tokio::test]
async fn fm_18_a_deleted_database_is_recreated_without_touching_apps() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let before = started(world)?;
        for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
            let path = world.layout().path("agent").join(name);
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        live.answers().await?;
        world.signal("agent", Signal::SIGKILL)?;
        poll::until("the agent with the document", PATIENCE, async || {
            live.answers().await?;
            ensure!(world.service("agent")?.starts == 2);
            let status = live.product.status()?;
            ensure!(status.contains("document 1.") && status.contains("live"), "{status}");
            Ok(())
        })
        .await?;
        ensure!(started(world)? == before, "the app was started again");
        let restarted = live.api.act(&live.id, "restart").await?;
        live.api.reaches(&live.id, Status::Running, restarted.revision).await?;
        live.answers().await
    })
    .await
}

/// The table is torn, and neither its writer nor its reader is running: requests wait.
#[tokio::test]
async fn fm_15_requests_wait_until_the_agent_rewrites_a_torn_table() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        // From before: without a table no name gets a certificate.
        let mut visitor = live.edge.connect(&live.host).await?;
        world.stop("agent", Signal::SIGKILL).await?;
        let path = world.layout().path("agent/live.json");
        let whole = fs::read(&path)?;
        fs::write(&path, &whole[..whole.len() / 2])?;
        world.stop("resolver", Signal::SIGKILL).await?;
        live.product.keep_resolver()?;
        let waits = visitor.send(http::Method::GET, "/", bytes::Bytes::new());
        let mended = async {
            live.product.keep_agent().await?;
            live.answers_again().await
        };
        let (waited, mended) = tokio::join!(waits, mended);
        mended?;
        let waited = waited?;
        ensure!(waited.status == 200, "{waited:?}");
        Ok(())
    })
    .await
}
