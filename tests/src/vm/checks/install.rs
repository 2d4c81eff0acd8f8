//! The three packages, from an archive, without a network.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Report;
use crate::vm::host::Host;
use crate::vm::report::Figure;

/// False if nothing further can be checked.
pub(super) async fn run(host: &Host, report: &mut Report, packages: &[PathBuf]) -> bool {
    let installed = report
        .check("apt installs the three packages", "exit code 0", install(host, packages))
        .await;
    if !installed {
        return false;
    }
    report
        .check("doctor of a host that has not joined", "names joining, exit 2", doctor(host))
        .await;
    true
}

async fn install(host: &Host, packages: &[PathBuf]) -> anyhow::Result<Figure> {
    let ssh = host.ssh();
    ssh.must(&["mkdir", "/root/debs"]).await?;
    ssh.copy_in(packages, "/root/debs/").await?;
    ssh.must(&["apt-get", "-q", "update"]).await?;
    let began = Instant::now();
    let files: Vec<String> = packages
        .iter()
        .filter_map(|path| path.file_name())
        .map(|name| format!("/root/debs/{}", name.to_string_lossy()))
        .collect();
    let mut argv = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install"];
    argv.extend(files.iter().map(String::as_str));
    let output = ssh.run_within(Duration::from_mins(12), &argv).await?;
    std::fs::write(host.file("apt.log"), output.text())?;
    if output.code != 0 {
        let text = output.text();
        let lines: Vec<_> = text.trim().lines().rev().take(8).collect();
        let said = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
        return Ok(Figure::new(format!("exit code {}: {said}", output.code), false));
    }
    let new = output.text().lines().filter(|line| line.starts_with("Setting up ")).count();
    let took = began.elapsed().as_secs();
    Ok(Figure::new(format!("exit code 0, {new} packages in {took} s"), true))
}

async fn doctor(host: &Host) -> anyhow::Result<Figure> {
    let (code, bad) = host.doctor().await?;
    let named = bad.iter().any(|(_, _, says)| says.contains("join"));
    let names: Vec<_> = bad.iter().map(|(check, ..)| check.as_str()).collect();
    Ok(Figure::new(format!("exit {code}: {}", names.join(", ")), code == 2 && named))
}
