//! `make bench`: what the product costs, each figure beside its bar.

use std::process::ExitCode;

use buddo_tests::bench::{self, Section, Sizes};
use clap::Parser;

/// What the product costs, each figure beside its bar. Only meaningful on a quiet machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// What to measure; all of it if absent.
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// Rounds of each latency.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Apps on the host in use; twice as many for a no-op pass.
    #[arg(long, default_value_t = 50)]
    apps: u32,
    /// Apps that are created at once.
    #[arg(long, default_value_t = 100)]
    burst: u32,
    /// Seconds that each idle measurement, and each load, takes.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let sections = if cli.sections.is_empty() { Section::ALL.to_vec() } else { cli.sections };
    let (rounds, apps, burst, seconds) = (cli.rounds, cli.apps, cli.burst, cli.seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench::run(&sections, Sizes { rounds, apps, burst, seconds }))?;
    Ok(ExitCode::SUCCESS)
}
