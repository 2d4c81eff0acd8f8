//! What an agent accepts: only documents signed for it, newer than the one it has, from the one
//! peer that may send them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::host_wire::manifest::{Manifest, SCHEMA};
use buddo_shared::host_wire::signed::{MAX_ENVELOPE, Signer};
use buddo_shared::model::id::{DeploymentId, Generation, HostId};
use buddo_shared::model::name::HostName;
use buddo_tests::impostor::{self, Impostor};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, Product, ZONE};
use buddo_tests::world::Lease;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

fn document(on: &Impostor, number: u64, apps: &[&str]) -> anyhow::Result<Manifest> {
    #[expect(clippy::disallowed_methods, reason = "documents for a real agent need real time")]
    let now = Timestamp::now();
    let mut deployments = Vec::new();
    for (index, name) in apps.iter().enumerate() {
        let id = DeploymentId::new(uuid::Uuid::from_u128(index as u128 + 1));
        deployments.push(impostor::deployment(id, name, impostor::service(IMAGE, 1)?)?);
    }
    Ok(Manifest {
        schema: SCHEMA,
        host_id: on.host,
        generation: Generation { epoch: 1000, generation: number },
        issued_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        zone: HostName::parse(ZONE)?,
        deployments,
        trust: None,
    })
}

#[tokio::test]
async fn an_agent_obeys_only_newer_documents_signed_for_it() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        world.stop("coordinator", Signal::SIGKILL).await?;
        let impostor = Impostor::of(&product)?;
        let host = format!("obeyed.{ZONE}");
        let edge = product.edge()?;
        let sign = |manifest: &Manifest| anyhow::Ok(impostor.signer.sign(manifest)?.bytes);

        // With the real keys it is accepted: what follows is refused only for its own fault.
        let held = document(&impostor, 10, &["obeyed"])?;
        let held_bytes = sign(&held)?;
        let (status, answer) = impostor.offer(&impostor.coordinator()?, held_bytes.clone()).await?;
        ensure!(status == 200 && answer["generation"] == 10, "{status} {answer}");
        poll::until("the app", Duration::from_mins(1), async || {
            let answer = edge.get(&host, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        let before = running(world)?;

        // fm_35: rolled back, and the same generation with other content.
        impostor.refused(sign(&document(&impostor, 9, &[])?)?, 409, "stale_generation").await?;
        impostor.refused(sign(&document(&impostor, 10, &[])?)?, 409, "generation_conflict").await?;
        // Sending the same one again is not an error.
        let (status, _) = impostor.offer(&impostor.coordinator()?, held_bytes.clone()).await?;
        ensure!(status == 200, "{status}");

        // fm_37: another host's.
        let mut foreign = document(&impostor, 11, &[])?;
        foreign.host_id = HostId::new(uuid::Uuid::from_u128(77));
        impostor.refused(sign(&foreign)?, 422, "foreign_host").await?;

        // Forged: another key, and a changed payload under the real signature.
        let forged = Signer::generate()?.sign(&document(&impostor, 12, &[])?)?.bytes;
        impostor.refused(forged, 422, "unknown_key").await?;
        let mut changed: serde_json::Value = serde_json::from_slice(&held_bytes)?;
        let other: serde_json::Value =
            serde_json::from_slice(&sign(&document(&impostor, 13, &[])?)?)?;
        changed["payload"] = other["payload"].clone();
        impostor.refused(serde_json::to_vec(&changed)?, 422, "bad_signature").await?;

        // Expired on arrival.
        let mut expired = document(&impostor, 14, &[])?;
        expired.expires_at = expired.issued_at - SignedDuration::from_secs(1);
        impostor.refused(sign(&expired)?, 422, "expired").await?;

        // fm_39: too large, refused before it is parsed.
        impostor.refused(vec![b' '; MAX_ENVELOPE + 1], 413, "document_too_large").await?;

        let mut older = document(&impostor, 15, &[])?;
        older.schema = SCHEMA - 1;
        impostor.refused(sign(&older)?, 422, "older_schema").await?;

        // Nobody else gets as far as offering one.
        let newer = sign(&document(&impostor, 15, &[])?)?;
        for client in [impostor.nobody()?, impostor.client_named("visitor.example.org")?] {
            let offered = impostor.offer(&client, newer.clone()).await;
            ensure!(!matches!(offered, Ok((200, _))), "a stranger was obeyed: {offered:?}");
        }

        ensure!(running(world)? == before, "a refused document changed something");
        ensure!(edge.get(&host, "/").await?.status == 200);

        // And a newer one from the real keys is accepted again.
        let (status, answer) = impostor.offer(&impostor.coordinator()?, newer).await?;
        ensure!(status == 200, "{status} {answer}");
        poll::until("the app to be gone", Duration::from_mins(1), async || {
            let left = product.containers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
        .context("a destroyed app stays")
    })
    .await
}

fn running(world: &buddo_tests::world::World) -> anyhow::Result<String> {
    let format = "--format={{.Names}} {{.Pid}} {{.StartedAt}}";
    Ok(String::from_utf8(world.exec(["podman", "ps", format])?.stdout)?)
}
