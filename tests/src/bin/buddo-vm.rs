//! `make test-vm`: the packages in a virtual machine. Prints a table of checks, each with its figure
//! and its bar.

use std::path::PathBuf;
use std::process::ExitCode;

use buddo_tests::vm::{self, Debian, Disk};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// The packages of `make deb` on a plain Debian, in a virtual machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Which Debian; `scripts/build-vm` has built its disk.
    #[arg(long, value_enum, default_value = "12")]
    debian: Debian,
    /// The build's folder, with `vm` and `debian` in it.
    #[arg(long, default_value = "target")]
    target: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let cli = Cli::parse();
    let disk = Disk::find(&cli.target, cli.debian)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        // The machine and its services end with the suite, so the suite must get to end.
        tokio::select! {
            done = vm::run(disk, &cli.target) => done?,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminated.recv() => anyhow::bail!("terminated"),
        }
        Ok(ExitCode::SUCCESS)
    })
}
