//! The main job, end to end: an operator deploys an app and it is live, until it is destroyed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use buddo_shared::api::deploy::Status;
use buddo_shared::model::secret::Secret;
use buddo_tests::api::request;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::{Lease, World};

#[tokio::test]
async fn an_app_goes_live_is_stopped_restarted_and_destroyed() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(true).await?;
        let api = product.operator("ada").await?;
        let edge = product.edge()?;
        let host = format!("life.{ZONE}");

        let mut create = request("life", IMAGE, PORT);
        let secret = "not-for-podman-inspect";
        create.env_vars = Some(BTreeMap::from([("GREETING".to_owned(), Secret::new(secret))]));
        let made = api.create(&create).await?;
        ensure!(made.status == Status::Pending, "{made:?}");
        let live = api.reaches(&made.id, Status::Running, 1).await?;
        ensure!(live.image_digest.as_deref().is_some_and(|d| d.starts_with("sha256:")), "{live:?}");
        ensure!(live.health_status.as_deref() == Some("healthy"), "{live:?}");
        ensure!(live.deployed_at.is_some() && live.last_error.is_none(), "{live:?}");

        // The certificate was made before the first visitor, and the environment reached the app.
        ensure!(edge.get(&host, "/").await?.text() == "hello v1\n");
        ensure!(edge.get(&host, "/env?name=GREETING").await?.text() == secret);
        let containers = product.containers()?;
        ensure!(containers.len() == 1, "{containers:?}");
        stored_nowhere(world, secret)?;

        let actions = |log: &buddo_shared::api::deploy::AuditLog| {
            log.logs.iter().map(|e| format!("{} {}", e.action, e.status)).collect::<Vec<_>>()
        };
        let log = api.logs(&made.id).await?;
        ensure!(actions(&log) == ["create completed", "deploy completed"], "{log:?}");

        api.act(&made.id, "stop").await?;
        api.reaches(&made.id, Status::Stopped, 1).await?;
        // The edge learns of it within its refresh time.
        poll::until("the 'stopped' page", Duration::from_secs(10), async || {
            let page = edge.get(&host, "/").await?;
            ensure!(page.status == 503 && page.text().contains("stopped"), "{page:?}");
            Ok(())
        })
        .await?;

        api.act(&made.id, "restart").await?;
        api.reaches(&made.id, Status::Running, 2).await?;
        ensure!(edge.get(&host, "/").await?.status == 200);

        let gone = api.destroy(&made.id).await?;
        ensure!(gone.message == "Deployment destroyed" && gone.id == made.id);
        poll::until("the container to be gone", Duration::from_secs(30), async || {
            let left = product.containers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        let left = world.exec(["podman", "secret", "ls", "--format={{.Name}}"])?;
        ensure!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
        Ok(())
    })
    .await
}

/// Environment values are sealed on all of the product's own disks, and are Podman secrets on
/// Podman's. (Podman 4.3 writes the environment of a started container to the runtime's
/// `config.json`, in a folder that only its user can enter, and `podman inspect` reads it from
/// there.)
fn stored_nowhere(world: &World, secret: &str) -> anyhow::Result<()> {
    let mut searched = 0;
    for folder in ["coordinator", "agent", "log"] {
        for entry in std::fs::read_dir(world.layout().path(folder))? {
            let path = entry?.path();
            if path.is_file() {
                let bytes = std::fs::read(&path)?;
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                ensure!(!found, "{} holds a value of the environment", path.display());
                searched += 1;
            }
        }
    }
    ensure!(searched > 10, "only {searched} files were searched");
    Ok(())
}

#[tokio::test]
async fn a_subdomain_is_free_as_soon_as_its_app_is_destroyed() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let (ada, bob) = (product.operator("ada").await?, product.operator("bob").await?);
        let first = ada.create(&request("same", IMAGE, PORT)).await?;
        let body = serde_json::to_value(request("same", IMAGE, PORT))?;
        let taken = bob.call(reqwest::Method::POST, "/api/deploy/apps", Some(&body)).await?;
        ensure!(
            taken.status == 422 && taken.json["errors"][0]["pointer"] == "/subdomain",
            "{taken:?}"
        );
        for (method, path) in [
            (reqwest::Method::GET, format!("/api/deploy/apps/{}", first.id)),
            (reqwest::Method::DELETE, format!("/api/deploy/apps/{}", first.id)),
            (reqwest::Method::POST, format!("/api/deploy/apps/{}/stop", first.id)),
        ] {
            let foreign = bob.call(method, &path, None).await?;
            ensure!(foreign.status == 403, "{path}: {foreign:?}");
            ensure!(!foreign.json.to_string().contains("same"), "{foreign:?}");
        }
        ada.reaches(&first.id, Status::Running, 1).await?;
        ada.destroy(&first.id).await?;
        let second = bob.create(&request("same", IMAGE, PORT)).await?;
        bob.reaches(&second.id, Status::Running, 1).await?;
        ensure!(product.edge()?.get(&format!("same.{ZONE}"), "/").await?.status == 200);
        Ok(())
    })
    .await
}
