//! From configuration files to two apps over HTTPS.

use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::{BAD, GOOD, Report};
use crate::poll;
use crate::vm::host::{Host, PATIENCE, ZONE};
use crate::vm::report::Figure;

/// False if nothing further can be checked.
pub(super) async fn run(host: &Host, report: &mut Report) -> bool {
    let up = report.check("the coordinator serves", "answers /health", coordinator(host)).await
        && report.check("the host joins", "exit code 0", join(host)).await;
    if !up {
        return false;
    }
    report.check("doctor of a host that has joined", "nothing failed", doctor(host)).await;
    report.check("two apps of two accounts, by `buddo`", "exit code 0", deploy(host)).await
        && report.check("both answer over verified HTTPS", "200", https(host)).await
}

async fn coordinator(host: &Host) -> anyhow::Result<Figure> {
    let began = Instant::now();
    let config = format!(
        "zone = \"{ZONE}\"\n\n\
         [api]\nlisten = \"0.0.0.0:8443\"\nnames = [\"localhost\", \"127.0.0.1\"]\n\n\
         [hosts]\nlisten = \"127.0.0.1:8444\"\n"
    );
    let ssh = host.ssh();
    ssh.write("/etc/buddo/coordinator.toml", &config, "644").await?;
    ssh.must(&["systemctl", "enable", "--now", "buddo-coordinator.service"]).await?;
    host.fetch_api_ca().await?;
    poll::until("the coordinator's health", PATIENCE, async || {
        let reply = host.api()?.call(reqwest::Method::GET, "/health", None).await?;
        ensure!(reply.status == 200, "status {}", reply.status);
        Ok(())
    })
    .await?;
    Ok(Figure::new(format!("{:.1} s", began.elapsed().as_secs_f64()), true))
}

async fn join(host: &Host) -> anyhow::Result<Figure> {
    let ssh = host.ssh();
    let registries = host.outside.registries_conf();
    ssh.must(&["mkdir", "-p", "/etc/containers/registries.conf.d"]).await?;
    ssh.write("/etc/containers/registries.conf.d/platform.conf", &registries, "644").await?;
    let ca = std::fs::read_to_string(host.outside.acme_ca())?;
    ssh.write("/usr/local/share/acme-ca.pem", &ca, "644").await?;
    let config = format!(
        "[caddy.issuer]\nkind = \"acme\"\ndirectory = \"{}\"\nca_root = \"/usr/local/share/acme-ca.pem\"\n",
        host.outside.acme_directory()
    );
    ssh.write("/etc/buddo/agent.toml", &config, "644").await?;
    // Each of them reads one of these files when it starts.
    let readers =
        ["buddo-podman", "buddo-resolver", "buddo-caddyfile", "buddo-caddy", "buddo-agent"];
    host.user_systemctl(&[&["restart"][..], &readers[..]].concat()).await?;
    let began = Instant::now();
    let printed = host.coordinator(&["host", "add", "container-host-1"]).await?;
    let token = printed.split_whitespace().find(|word| word.starts_with("buddo_join_"));
    let token = format!("BUDDO_JOIN_TOKEN={}", token.context("`host add` printed no token")?);
    let place = ["--coordinator", "https://127.0.0.1:8444", "--advertise", "127.0.0.1:7443"];
    host.user_must(&[&["env", &token, "buddo-agent", "join"][..], &place[..]].concat()).await?;
    poll::until("the host's first document", PATIENCE, async || {
        let (_, bad) = host.doctor().await?;
        let waits = bad.iter().find(|(_, _, says)| says.contains("join"));
        ensure!(waits.is_none(), "{waits:?}");
        Ok(())
    })
    .await?;
    Ok(Figure::new(format!("{:.1} s", began.elapsed().as_secs_f64()), true))
}

async fn doctor(host: &Host) -> anyhow::Result<Figure> {
    let (code, bad) = host.doctor().await?;
    let words: Vec<_> =
        bad.iter().map(|(check, severity, says)| format!("{check} ({severity}): {says}")).collect();
    let text = if words.is_empty() { "all ok".to_owned() } else { words.join("; ") };
    Ok(Figure::new(format!("exit {code}: {text}"), code < 2))
}

async fn deploy(host: &Host) -> anyhow::Result<Figure> {
    let mut seconds = Vec::new();
    for (operator, app) in [GOOD, BAD] {
        host.account(operator).await?;
        let began = Instant::now();
        host.deploy(operator, app).await?;
        seconds.push(format!("{:.1} s", began.elapsed().as_secs_f64()));
    }
    Ok(Figure::new(seconds.join(", "), true))
}

async fn https(host: &Host) -> anyhow::Result<Figure> {
    let began = Instant::now();
    host.all_answer(&[GOOD.1, BAD.1], PATIENCE).await?;
    Ok(Figure::new(format!("200 after {:.1} s", began.elapsed().as_secs_f64()), true))
}
