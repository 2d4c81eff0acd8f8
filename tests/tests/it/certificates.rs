//! Certificates from an ACME authority that validates for real.

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::product::{Authority, IMAGE, Options, PORT, Product};
use buddo_tests::world::Lease;

#[tokio::test]
async fn an_app_has_its_acme_certificate_before_its_first_visitor() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let options = Options { authority: Authority::Acme, ..Options::default() };
        let product = Product::up(world, options).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let made = api.create(&request("secure", IMAGE, PORT)).await?;
        api.reaches(&made.id, Status::Running, 1).await?;
        let issued = world.layout().path("agent/caddy/data/certificates");
        let name = format!("secure.{}", product.zone());
        let found = find(&issued, &format!("{name}.crt"))?;
        ensure!(found, "running, but no certificate for {name} in {}", issued.display());
        let answer = product.edge()?.get(&name, "/").await?;
        ensure!(answer.status == 200, "{answer:?}");

        // A name that no app has gets none.
        let stranger = product.edge()?.get(&format!("stranger.{}", product.zone()), "/").await;
        ensure!(stranger.is_err(), "a certificate was made for a name of no app: {stranger:?}");
        Ok(())
    })
    .await
}

fn find(folder: &std::path::Path, name: &str) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name() == name || (path.is_dir() && find(&path, name)?) {
            return Ok(true);
        }
    }
    Ok(false)
}
