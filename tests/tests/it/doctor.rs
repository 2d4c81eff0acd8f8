//! `buddo-agent doctor` on a real host: as healthy as a world can be, and with parts removed.

use std::collections::BTreeMap;
use std::process::Output;

use anyhow::{Context as _, ensure};
use buddo_tests::product::{Options, Product};
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Each check's severity, and the exit code.
fn examine(product: &Product<'_>) -> anyhow::Result<(BTreeMap<String, String>, Option<i32>)> {
    let output = run(product, &["doctor", "--json"])?;
    let value: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let findings = value["findings"].as_array().context("no findings")?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seen = findings.iter().map(|f| (word(&f["check"]), word(&f["severity"]))).collect();
    Ok((seen, output.status.code()))
}

fn run(product: &Product<'_>, arguments: &[&str]) -> anyhow::Result<Output> {
    let program = product.world.binary("buddo-agent").to_string_lossy().into_owned();
    let config = product.agent_config().to_string_lossy().into_owned();
    let argv = [&[&*program][..], arguments, &["--config", &config]].concat();
    product.world.exec(argv)
}

#[tokio::test]
async fn a_working_host_passes_and_missing_parts_are_reported() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let (seen, code) = examine(&product)?;
        let failed: Vec<_> = seen.iter().filter(|(_, severity)| *severity == "failure").collect();
        ensure!(failed.is_empty(), "{failed:?}");
        // A world has no systemd of its own and, on some machines, no controllers of version 2.
        ensure!(seen["user-manager"] == "warning" && code == Some(1), "{seen:?}, exit {code:?}");
        for check in [
            "user",
            "subordinate-ids",
            "runtime-dir",
            "podman",
            "podman-rootless",
            "podman-unit",
            "podman-network",
            "podman-storage",
            "podman-locks",
            "kernel-keys",
            "caddy",
            "caddy-admin",
            "caddy-main-file",
            "caddy-routes",
            "resolver",
            "state-dir",
            "identity",
            "agent",
            "core-dumps",
        ] {
            ensure!(seen.get(check).is_some_and(|severity| severity == "ok"), "{check}: {seen:?}");
        }

        // The test does not depend on how full this machine's disks are.
        ensure!(seen.contains_key("disk-state") && seen.contains_key("disk-images"), "{seen:?}");

        // A foreign file beside the agent's.
        let foreign = world.layout().path("agent/caddy/routes/mine.caddy");
        std::fs::write(&foreign, "not a Caddyfile {")?;
        ensure!(examine(&product)?.0["caddy-routes"] == "warning");
        std::fs::remove_file(&foreign)?;

        // Half of the host is missing, and the rest is still checked.
        world.stop("agent", Signal::SIGTERM).await?;
        world.stop("podman", Signal::SIGTERM).await?;
        world.stop("caddy", Signal::SIGTERM).await?;
        let (seen, code) = examine(&product)?;
        ensure!(code == Some(2), "exit {code:?}");
        for check in ["podman", "caddy", "agent"] {
            ensure!(seen[check] == "failure", "{check}: {seen:?}");
        }
        for check in ["user", "resolver", "state-dir", "identity"] {
            ensure!(seen[check] == "ok", "{check}: {seen:?}");
        }
        let lines = String::from_utf8(run(&product, &["doctor"])?.stdout)?;
        let caddy = lines.lines().find(|line| line.starts_with("FAILED\tcaddy\t"));
        ensure!(caddy.is_some_and(|line| line.contains("systemctl --user start")), "{lines}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unusable_configuration_is_reported() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let program = world.binary("buddo-agent").to_string_lossy().into_owned();
        let missing = world.layout().path("none.toml").to_string_lossy().into_owned();
        let output = world.exec([&*program, "doctor", "--config", &missing])?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(2), "{:?}", output.status);
        ensure!(said.starts_with("FAILED\tconfiguration\t") && said.contains(&missing), "{said}");
        Ok(())
    })
    .await
}
