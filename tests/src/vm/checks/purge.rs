//! What the packages leave behind.

use std::time::Duration;

use anyhow::ensure;

use super::Report;
use crate::vm::host::Host;
use crate::vm::report::Figure;

/// Folders whose files are the suite's, the kernel's or the administrator's.
const NOT_OURS: [&str; 7] = ["/proc", "/sys", "/media", "/root", "/tmp", "/var/log", "/dev"];

pub(super) async fn run(host: &Host, report: &mut Report) {
    let uid = host.uid().await;
    if !report.check("apt purges them", "exit code 0", purge(host)).await {
        return;
    }
    report.check("files named after them", "none but volumes", files(host)).await;
    report.check("users, ids, lingering", "none", accounts(host)).await;
    report.check("processes of the user", "none", async { processes(host, uid?).await }).await;
}

async fn purge(host: &Host) -> anyhow::Result<Figure> {
    let argv = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-y",
        "purge",
        "buddo-agent",
        "buddo-coordinator",
        "buddo",
    ];
    let output = host.ssh().run_within(Duration::from_mins(5), &argv).await?;
    ensure!(output.code == 0, "exit code {}: {}", output.code, output.text().trim());
    Ok(Figure::new("exit code 0", true))
}

async fn files(host: &Host) -> anyhow::Result<Figure> {
    let mut argv = vec!["find", "/"];
    for folder in NOT_OURS {
        argv.extend(["-path", folder, "-prune", "-o"]);
    }
    argv.extend(["-name", "*buddo*", "-prune", "-print"]);
    let found = host.ssh().run(&argv).await?.stdout;
    // apt's own copies of what it installed from.
    let lines: Vec<_> = found.lines().filter(|line| !line.starts_with("/var/lib/apt/")).collect();
    let text = if lines.is_empty() { "none".to_owned() } else { lines.join(" ") };
    Ok(Figure::new(text, lines.is_empty()))
}

async fn accounts(host: &Host) -> anyhow::Result<Figure> {
    let files = ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"];
    let output = host.ssh().run(&[&["grep", "buddo"][..], &files[..]].concat()).await?;
    let linger = host.ssh().run(&["ls", "/var/lib/systemd/linger"]).await?;
    let left = format!("{} {}", output.stdout.trim(), linger.stdout.trim()).replace('\n', " ");
    let left = left.trim();
    let text = if left.is_empty() { "none" } else { left };
    Ok(Figure::new(text, left.is_empty()))
}

async fn processes(host: &Host, uid: u32) -> anyhow::Result<Figure> {
    let output = host.ssh().run(&["ps", "-o", "comm=", "-u", &uid.to_string()]).await?;
    let names: Vec<_> = output.stdout.split_whitespace().collect();
    let text = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    Ok(Figure::new(text, names.is_empty()))
}
