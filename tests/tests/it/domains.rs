//! Custom domains: each has its own route file, in force without affecting anybody else.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::Lease;

#[tokio::test]
async fn a_custom_domain_serves_beside_the_subdomain_until_the_app_is_destroyed()
-> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let tier = api.tiers().await?.into_iter().find(|tier| tier.custom_domain_allowed);
        let tier = tier.context("no tier allows custom domains")?;
        // It is paid in bitcoin, and so only for accounts that an administrator allows.
        product.coordinator_command(&["admin", "tier", "allow", &tier.slug, "ada@example.com"])?;
        let mut create = request("shop", IMAGE, PORT);
        create.tier = Some(tier.slug);
        create.custom_domain = Some("shop.example.org".to_owned());
        let made = api.create(&create).await?;
        let live = api.reaches(&made.id, Status::Running, 1).await?;
        ensure!(live.custom_domain.as_deref() == Some("shop.example.org"), "{live:?}");

        let edge = product.edge()?;
        for host in [format!("shop.{ZONE}"), "shop.example.org".to_owned()] {
            let answer = edge.get(&host, "/").await?;
            ensure!(answer.text() == "hello v1\n", "{host}: {answer:?}");
        }
        let file = world.layout().path(format!("agent/caddy/routes/app-{}.caddy", made.id));
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        ensure!(text.starts_with("shop.example.org {"), "{text}");

        // If the tier does not allow it, nothing is stored.
        let mut refused = request("no-shop", IMAGE, PORT);
        refused.custom_domain = Some("other.example.org".to_owned());
        let body = serde_json::to_value(&refused)?;
        let reply = api.call(reqwest::Method::POST, "/api/deploy/apps", Some(&body)).await?;
        ensure!(reply.status == 422, "{reply:?}");
        ensure!(reply.json["errors"][0]["pointer"] == "/custom_domain", "{reply:?}");

        api.destroy(&made.id).await?;
        poll::until("the route file to be gone", Duration::from_mins(1), async || {
            ensure!(!file.exists(), "{} is there", file.display());
            Ok(())
        })
        .await
    })
    .await
}
