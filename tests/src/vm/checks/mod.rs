//! The suite: what must hold on a host that was installed from the packages. The order matters, each
//! part begins where the last one ends; a check that fails stops only what cannot go on without it.
//!
//! ```text
//! install ─► serve ─► limits ─► hostile ─► units ─► restarts ─► boots ─► purge
//! ```

mod boots;
mod hostile;
mod install;
mod limits;
mod purge;
mod restarts;
mod serve;
mod units;

use std::path::Path;

use anyhow::Context as _;

use super::disk::{Disk, packages};
use super::host::Host;
use super::machine::Machine;
use super::outside::{self, Outside};
use super::report::Report;

/// The operators and their apps: one who does no harm, and one who means it ill.
const GOOD: (&str, &str) = ("alice", "steady");
const BAD: (&str, &str) = ("mallory", "greedy");

/// Runs the suite and prints its table. It fails if a check did.
pub async fn run(disk: Disk, target: &Path) -> anyhow::Result<()> {
    outside::available()?;
    let packages = packages(target)?;
    let program = std::env::current_exe()?.with_file_name("buddo-web");
    let machine = Machine::boot(disk).await?;
    tracing::info!("the machine is up; its console: {}", machine.console().display());
    let outside = Outside::start(machine.ports).await?;
    outside.publish(&program).await.context("cannot store the web app's image")?;
    let mut host = Host::new(machine, outside)?;
    let mut report = Report::default();
    Report::head();
    if install::run(&host, &mut report, &packages).await && serve::run(&host, &mut report).await {
        limits::run(&host, &mut report).await;
        hostile::run(&host, &mut report).await;
        units::run(&host, &mut report).await;
        restarts::run(&host, &mut report).await;
        boots::run(&mut host, &mut report).await;
    }
    purge::run(&host, &mut report).await;
    report.verdict()
}
