//! OAuth with third-party clients, and `buddo login` in a browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use buddo_tests::product::{Options, Product};
use buddo_tests::world::Lease;

/// Where `scripts/install-packages --tests` puts them.
const CLIENTS: &str = "/usr/local/lib/buddo-tests/oauth-clients";

#[tokio::test]
async fn real_oauth_clients_complete_every_flow() -> anyhow::Result<()> {
    ensure!(
        Path::new(CLIENTS).is_dir(),
        "{CLIENTS} is not there; run `scripts/install-packages --tests`"
    );
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.register("app@example.com", "appmaker", "a-strong-password").await?;
        let mut script = Command::new("python3");
        script
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/oauth_clients.py"))
            .env("PYTHONPATH", CLIENTS)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // The caller's own would take precedence over what the script asks for.
            .env("REQUESTS_CA_BUNDLE", product.api_ca())
            .env("NO_PROXY", "localhost")
            .env("BUDDO_API", product.url())
            .env("BUDDO_CA", product.api_ca())
            .env("BUDDO_EMAIL", "app@example.com")
            .env("BUDDO_PASSWORD", "a-strong-password")
            .env("BUDDO", world.binary("buddo"));
        let run = tokio::task::spawn_blocking(move || script.output());
        let output = tokio::time::timeout(Duration::from_mins(3), run).await???;
        let done = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "after\n{done}this went wrong:\n{said}");
        ensure!(done.lines().filter(|line| line.starts_with("ok: ")).count() == 10, "{done}");
        Ok(())
    })
    .await
}
