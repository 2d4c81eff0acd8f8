//! Bad input: a problem that names the field and the fix, and nothing stored.

use anyhow::ensure;
use buddo_shared::model::secret::Secret;
use buddo_tests::api::Api;
use buddo_tests::product::{IMAGE, Options, Product};
use buddo_tests::world::Lease;
use reqwest::Method;
use serde_json::{Value, json};

const APPS: &str = "/api/deploy/apps";

#[tokio::test]
async fn bad_input_is_refused_by_field_and_stores_nothing() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let api = product.operator("ada").await?;
        let good =
            json!({ "subdomain": "fine", "image": IMAGE, "tier": "buddo-starter", "port": 80 });
        let many: serde_json::Map<String, Value> =
            (0..51).map(|n| (format!("KEY_{n}"), json!("value"))).collect();
        let digest = "docker.io/library/nginx@sha256:12";
        for (field, value) in [
            ("subdomain", json!("-starts-badly")),
            ("subdomain", json!("UPPER")),
            ("subdomain", json!("a".repeat(33))),
            ("subdomain", json!("")),
            ("subdomain", json!("a.b")),
            ("image", json!("docker.io.evil.com/library/nginx:latest")),
            ("image", json!("ghcr.io@evil.com/app:latest")),
            ("image", json!("docker.io/library/NGINX:latest")),
            ("image", json!("docker.io/other/nginx:latest")),
            ("image", json!("nginx")),
            ("image", json!(digest)),
            ("port", json!(0)),
            ("port", json!(65_536)),
            ("port", json!(-1)),
            ("env_vars", Value::Object(many)),
            ("tier", json!("No Such Tier")),
            ("custom_domain", json!("not a domain")),
        ] {
            let mut body = good.clone();
            body[field] = value.clone();
            problem(&api, &body, 422, Some(field)).await.map_err(|e| e.context(value))?;
        }
        let mut unknown_tier = good.clone();
        unknown_tier["tier"] = json!("no-such-tier");
        problem(&api, &unknown_tier, 404, None).await?;
        let mut wrong_type = good.clone();
        wrong_type["port"] = json!({ "number": 80 });
        problem(&api, &wrong_type, 422, None).await?;
        let mut large = good.clone();
        large["env_vars"] = json!({ "BIG": "x".repeat(10 * 1024 * 1024) });
        problem(&api, &large, 413, None).await?;
        ensure!(api.list().await?.is_empty(), "something was stored: {:?}", api.list().await?);

        // Without a token, and with a wrong one.
        for caller in [product.api()?, product.api()?.with_token(Secret::new("nonsense"))] {
            let reply = caller.call(Method::GET, APPS, None).await?;
            ensure!(reply.status == 401 && reply.json["detail"].is_string(), "{reply:?}");
        }
        let unknown = "/api/deploy/apps/550e8400-e29b-41d4-a716-446655440000";
        ensure!(api.call(Method::GET, unknown, None).await?.status == 404);
        Ok(())
    })
    .await
}

async fn problem(api: &Api, body: &Value, status: u16, field: Option<&str>) -> anyhow::Result<()> {
    let reply = api.call(Method::POST, APPS, Some(body)).await?;
    ensure!(reply.status == status, "{reply:?}, wanted {status}");
    for member in ["type", "title", "detail", "error", "code"] {
        ensure!(reply.json[member].as_str().is_some_and(|text| !text.is_empty()), "{reply:?}");
    }
    if let Some(field) = field {
        let pointer = reply.json["errors"][0]["pointer"].as_str().unwrap_or_default();
        ensure!(pointer.starts_with(&format!("/{field}")), "{reply:?}, wanted {field}");
    }
    Ok(())
}
