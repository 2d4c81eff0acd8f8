//! The web app of the demo's and the tests' images; see `buddo_tests::web`.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use buddo_tests::web::{Behaviour, serve};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<ExitCode> {
    let behaviour = Behaviour::from_variables(std::env::vars().collect())
        .context("PORT, START_DELAY_MS, EXIT_AT_START and CRASH_AFTER_MS take numbers")?;
    if let Some(code) = behaviour.exit_at_start {
        return Ok(ExitCode::from(code));
    }
    if let Some(line) = &behaviour.pose_as {
        if std::env::args().eq(line.split_whitespace().map(str::to_owned)) {
            loop {
                std::thread::park();
            }
        }
        pose(line).context("cannot pose")?;
    }
    let crash = behaviour.crash_after;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            terminate.recv().await;
        };
        let crash = async {
            match crash {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            served = serve(behaviour, stop) => {
                served.context("cannot serve").map(|()| ExitCode::SUCCESS)
            }
            () = crash => Ok(ExitCode::from(3)),
        }
    })
}

/// Runs this program once more, under another program's command line.
fn pose(line: &str) -> std::io::Result<()> {
    let mut words = line.split_whitespace();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(words.next().unwrap_or_default()).args(words).spawn().map(drop)
}
