//! What systemd says of the units: how exposed each is.

use anyhow::Context as _;

use super::Report;
use crate::vm::host::Host;
use crate::vm::report::Figure;

/// Each unit's file and the highest score that it may have; Podman starts containers, so its own only
/// is shown.
const UNITS: [(&str, Option<f64>); 6] = [
    ("/usr/lib/systemd/system/buddo-coordinator.service", Some(1.5)),
    ("/usr/lib/systemd/user/buddo-agent.service", Some(4.0)),
    ("/usr/lib/systemd/user/buddo-resolver.service", Some(4.0)),
    ("/usr/lib/systemd/user/buddo-caddy.service", Some(4.0)),
    ("/usr/lib/systemd/user/buddo-caddyfile.service", Some(3.0)),
    ("/usr/lib/systemd/user/buddo-podman.service", None),
];

pub(super) async fn run(host: &Host, report: &mut Report) {
    for (file, most) in UNITS {
        let name = file.rsplit('/').next().unwrap_or(file);
        let bar = most.map_or("shown only".to_owned(), |most| format!("at most {most}"));
        report.check(&format!("exposure of {name}"), &bar, exposure(host, file, most)).await;
    }
}

async fn exposure(host: &Host, file: &str, most: Option<f64>) -> anyhow::Result<Figure> {
    let words = ["systemd-analyze", "security", "--offline=true", "--no-pager", file];
    let output = host.ssh().run(&words).await?;
    let line = output.stdout.lines().rfind(|line| line.contains("Overall exposure level"));
    let score =
        line.and_then(|line| line.rsplit_once(": ")?.1.split(' ').next()?.parse::<f64>().ok());
    let score = score.with_context(|| format!("no score in: {}", output.text().trim()))?;
    Ok(Figure::new(format!("{score:.1}"), most.is_none_or(|most| score <= most)))
}
