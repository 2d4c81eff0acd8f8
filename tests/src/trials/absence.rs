//! Caddy killed, and how long it was down.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::load::Outage;
use crate::world::{PATIENCE, PortOf, World};

/// Between two checks whether it accepts again.
const LOOK: Duration = Duration::from_millis(2);

/// SIGKILLs Caddy at once; the returned future waits until it accepts connections again.
pub fn kill_caddy(
    world: &World,
) -> anyhow::Result<impl Future<Output = anyhow::Result<Outage>> + Send + use<>> {
    let from = Instant::now();
    world.signal("caddy", Signal::SIGKILL)?;
    Ok(absence(world.layout().address(PortOf::Edge), from))
}

/// The kernel refuses connections from some moment after the signal on: one before that moment is
/// one with the process that dies.
async fn absence(edge: SocketAddrV4, from: Instant) -> anyhow::Result<Outage> {
    let back = async {
        while TcpStream::connect(edge).await.is_ok() {
            tokio::time::sleep(LOOK).await;
        }
        while TcpStream::connect(edge).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
        Outage { from, until: Instant::now() }
    };
    tokio::time::timeout(PATIENCE, back).await.context("Caddy did not come back after a kill")
}
