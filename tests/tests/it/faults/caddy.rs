//! Caddy killed, and what others do to its folder.

use std::fs;

use anyhow::ensure;
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;

use super::Live;

#[tokio::test]
async fn fm_28_a_killed_caddy_comes_back_with_every_route() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        // The agent is down: what is on disk is enough.
        world.stop("agent", Signal::SIGKILL).await?;
        world.signal("caddy", Signal::SIGKILL)?;
        live.answers_again().await?;
        ensure!(world.service("caddy")?.starts == 2);
        Ok(())
    })
    .await
}

/// A file that Caddy cannot read is in the agent's folder when Caddy starts.
#[tokio::test]
async fn fm_28_a_foreign_bad_route_file_is_set_aside_and_reported() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let folder = world.layout().path("agent/caddy/routes");
        fs::write(folder.join("mine.caddy"), "mine.example.org {\n\tno_such_directive\n}\n")?;
        world.signal("caddy", Signal::SIGKILL)?;
        live.answers_again().await?;
        live.tells(&["the route file mine.caddy is not in force", "mine.caddy.disabled"]).await?;
        let kept = fs::read_to_string(folder.join("mine.caddy.disabled"))?;
        ensure!(kept.contains("no_such_directive"), "{kept}");
        fs::remove_file(folder.join("mine.caddy.disabled"))?;
        live.tells_no_more("mine.caddy").await
    })
    .await
}
