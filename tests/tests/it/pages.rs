//! The published pages: every curl example, and every command of the CLI's table.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_tests::demo::write_env;
use buddo_tests::product::{IMAGE, Limits, Options, PORT, Product};
use buddo_tests::world::Lease;

#[tokio::test]
async fn every_documented_curl_example_works() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let options = Options { limits: Limits::Published, ..Options::default() };
        let product = Product::up(world, options).await?;
        product.publish_images(true).await?;
        let folder = tempfile::tempdir()?;
        let env = write_env(&product, folder.path(), "unused")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/quickstart.sh");
        let run = tokio::task::spawn_blocking(move || Command::new(script).arg(env).output());
        let output = tokio::time::timeout(Duration::from_mins(5), run).await???;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "quickstart.sh failed:\n{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_documented_cli_command_works() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(true).await?;
        product.register("you@example.com", "myoperator", "a-strong-password").await?;
        let home = tempfile::tempdir()?;
        let buddo = |arguments: &[&str], input: &str| {
            let file = home.path().join("stdin");
            fs::write(&file, input)?;
            let output = Command::new(world.binary("buddo"))
                .args(arguments)
                .env_clear()
                .env("HOME", home.path())
                .env("BUDDO_API", product.url())
                .env("BUDDO_CA", product.api_ca())
                .stdin(Stdio::from(fs::File::open(file)?))
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "buddo {arguments:?} failed: {said}");
            anyhow::Ok(String::from_utf8(output.stdout)? + &said)
        };
        let has = |text: &str, words: &[&str]| {
            for word in words {
                ensure!(text.contains(word), "{word:?} is not in: {text}");
            }
            Ok(())
        };

        has(&buddo(&["--version"], "")?, &["buddo v0.1.0"])?;
        let credentials = "you@example.com\na-strong-password\n";
        has(&buddo(&["login"], credentials)?, &["Logged in as myoperator"])?;
        let create = ["deploy", "--name", "my-app", "--image", "docker.io/library/nginx:latest"];
        let rest = ["--port", "80", "--tier", "buddo-starter"];
        let deployed = buddo(&[&create[..], &rest[..]].concat(), "")?;
        let words = [
            "Creating deployment \"my-app\"...",
            "Deployment ID: ",
            "pending → ",
            "running",
            "Live at: https://my-app.",
        ];
        has(&deployed, &words)?;
        let id = deployed.split("Deployment ID: ").nth(1).and_then(|t| t.split_whitespace().next());
        let id = id.context("no deployment id was printed")?;
        let status = buddo(&["status", "my-app"], "")?;
        let first = format!("Deployment: my-app ({id})");
        has(
            &status,
            &[&first, "Status: ", "running", "Health: ", "healthy", "Last check: ", "URL: "],
        )?;
        let log = buddo(&["deploy", "logs", id], "")?;
        has(
            &log,
            &["Action", "Status", "Initiated by", "Time", "create", "completed", "platform"],
        )?;
        has(&log, &["myoperator"])?;
        has(&buddo(&["list"], "")?, &["my-app", "running"])?;
        has(&buddo(&["tiers"], "")?, &["buddo-starter"])?;
        buddo(&["deploy", "restart", id], "")?;
        buddo(&["deploy", "stop", id], "")?;
        has(&buddo(&["status", "my-app"], "")?, &["stopped"])?;
        buddo(&["deploy", "restart", id], "")?;
        buddo(&["deploy", "destroy", id], "")?;

        // By name, and all of it as JSON.
        let port = PORT.to_string();
        let create = ["deploy", "--name", "by-name", "--image", IMAGE, "--port", &port, "--json"];
        let json = buddo(&[&create[..], &rest[2..]].concat(), "")?;
        has(&json, &["\"running\""])?;
        buddo(&["deploy", "destroy", "by-name"], "")?;
        Ok(())
    })
    .await
}
