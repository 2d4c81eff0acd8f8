//! The web app of the demo's and the tests' images; see `buddo_tests::web`.

use std::process::ExitCode;

use anyhow::Context as _;
use buddo_tests::web::{Behaviour, serve};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<ExitCode> {
    let behaviour = Behaviour::from_variables(std::env::vars().collect())
        .context("PORT, START_DELAY_MS and EXIT_AT_START take numbers")?;
    if let Some(code) = behaviour.exit_at_start {
        return Ok(ExitCode::from(code));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            terminate.recv().await;
        };
        serve(behaviour, stop).await.context("cannot serve")
    })?;
    Ok(ExitCode::SUCCESS)
}
