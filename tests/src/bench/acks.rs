//! The time until a host acknowledges a document as on disk: over mutual TLS, signed and verified.

use std::time::Instant;

use anyhow::ensure;
use buddo_shared::host_wire::manifest::{Manifest, SCHEMA};
use buddo_shared::model::id::Generation;
use buddo_shared::model::name::HostName;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use super::{Sizes, sheet};
use crate::impostor::Impostor;
use crate::product::{Options, Product, ZONE};
use crate::world::Lease;

/// Documents for each round of the other latencies.
const EACH: u32 = 10;

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    world.stop("coordinator", Signal::SIGKILL).await?;
    let impostor = Impostor::of(&product)?;
    let client = impostor.coordinator()?;
    let mut took = Vec::new();
    for number in 0..=sizes.rounds * EACH {
        let began = Instant::now();
        let envelope = impostor.signer.sign(&document(&impostor, number.into())?)?.bytes;
        let (status, said) = impostor.offer(&client, envelope).await?;
        ensure!(status == 200, "{status} {said}");
        // The first one makes the connection.
        if number > 0 {
            took.push(began.elapsed());
        }
    }
    let bar = "(p99 500 ms at 1,000/s to 1,000 hosts: not measured)";
    sheet::durations("document signed → durable on one host, one by one", &mut took, bar);
    Ok(())
}

fn document(impostor: &Impostor, generation: u64) -> anyhow::Result<Manifest> {
    #[expect(clippy::disallowed_methods, reason = "documents for a real agent need real time")]
    let now = Timestamp::now();
    Ok(Manifest {
        schema: SCHEMA,
        host_id: impostor.host,
        generation: Generation { epoch: 1_000_000_000_000, generation },
        issued_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        zone: HostName::parse(ZONE)?,
        deployments: Vec::new(),
        trust: None,
    })
}
