//! Rollback: an earlier revision with exactly the bytes it ran, from images on the host.

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::{CreateDeployment, Rollback, Status};
use buddo_shared::model::secret::Secret;
use buddo_tests::api::request;
use buddo_tests::image::{Layer, publish};
use buddo_tests::load::{Load, Plan};
use buddo_tests::product::{Options, PORT, Product, ZONE};
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;

const IMAGE: &str = "harbor.buddo.xyz:4443/demo/moves:latest";

/// Enough to notice a gap of a few milliseconds, and light enough to share a machine.
const LIGHT: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_33_a_rollback_runs_the_old_image_without_registry_or_lost_requests()
-> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let layer = Layer::of_program(&world.binary("buddo-web"))?;
        let api = product.operator("ada").await?;
        let (edge, host) = (product.edge()?, format!("moves.{ZONE}"));

        // One tag, with different bytes each time.
        let mut digests = Vec::new();
        let mut id = String::new();
        for revision in 1..=3_u32 {
            let version = format!("v{revision}");
            publish(world, &layer, "demo/moves", "latest", &[("VERSION", &version)]).await?;
            if revision == 1 {
                let vars = [("GREETING".to_owned(), Secret::new("hello"))].into();
                let with_env =
                    CreateDeployment { env_vars: Some(vars), ..request("moves", IMAGE, PORT) };
                id = api.create(&with_env).await?.id;
            } else {
                api.act(&id, "restart").await?;
            }
            let live = api.reaches(&id, Status::Running, revision).await?;
            digests.push(live.image_digest.context("no digest")?);
            ensure!(edge.get(&host, "/").await?.text() == format!("hello {version}\n"));
        }
        ensure!(digests[0] != digests[2], "{digests:?}");

        world.stop("registry", Signal::SIGKILL).await?;
        let plan = Plan { rate: LIGHT, workers: 8, ..Plan::default() };
        let load = Load::start(&edge, &host, plan);
        let rolled = api.rollback(&id, Rollback { revision: Some(1) }).await?;
        ensure!(rolled.revision == 4 && rolled.status == Status::Deploying, "{rolled:?}");
        let live = api.reaches(&id, Status::Running, 4).await?;
        let tally = load.finish().await;
        tally.without_failure()?;
        ensure!(live.image_digest.as_ref() == Some(&digests[0]), "{live:?}");
        ensure!(live.last_error.is_none(), "{live:?}");
        ensure!(edge.get(&host, "/").await?.text() == "hello v1\n");
        ensure!(edge.get(&host, "/env?name=GREETING").await?.text() == "hello");

        // What happened is visible in the revisions and in the audit log.
        let revisions = api.revisions(&id).await?.revisions;
        let newest = revisions.first().context("no revision")?;
        ensure!(newest.serving && newest.rollback_of == Some(1), "{newest:?}");
        ensure!(revisions.len() == 4 && revisions.iter().all(|r| r.can_roll_back), "{revisions:?}");
        let log = api.logs(&id).await?.logs;
        let entry = log.iter().find(|entry| entry.action == "rollback").context("no entry")?;
        ensure!(entry.initiated_by.is_some() && entry.status == "completed", "{entry:?}");

        // Back again, without a number: to the newest other revision.
        let again = api.rollback(&id, Rollback::default()).await?;
        let live = api.reaches(&id, Status::Running, again.revision).await?;
        ensure!(live.image_digest.as_ref() == Some(&digests[2]), "{live:?}");
        Ok(())
    })
    .await
}
