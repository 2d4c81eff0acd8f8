//! `buddo`: the operator's command line.
//!
//! ```text
//! args ─► command (one per verb) ─► client ─► the coordinator's API
//!              │   ▲                  └─► session (credentials.json)
//!              ▼   └── config
//!              ui (the only printer) ◄── error (kind + cause + hint) ─► exit code
//! ```

#![allow(missing_docs, reason = "a field whose name says it needs no sentence")]

mod args;
mod callback;
mod client;
mod clock;
mod command;
mod config;
mod env_vars;
mod error;
mod explain;
mod pkce;
mod session;
mod target;
mod ui;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::args::Cli;
use crate::error::{CliError, Kind};
use crate::ui::Ui;

fn main() -> ExitCode {
    let mut ui = Ui::of_process();
    // Before clap: even a command line that it refuses may have asked for JSON.
    ui.set_json(asks_for_json(std::env::args_os().skip(1)));
    let parsed = args::command().try_get_matches().and_then(|m| Cli::from_arg_matches(&m));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            ui.usage(&error);
            let failed = error.use_stderr();
            return if failed { Kind::Usage.exit_code().into() } else { ExitCode::SUCCESS };
        }
    };
    ui.set_json(cli.global.json);
    match run(cli, &mut ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(&error);
            error.kind.exit_code().into()
        }
    }
}

/// Whether `--json` is among the options, which end at `--`.
fn asks_for_json(args: impl Iterator<Item = std::ffi::OsString>) -> bool {
    args.take_while(|arg| arg != "--").any(|arg| arg == "--json")
}

fn run(cli: Cli, ui: &mut Ui) -> Result<(), CliError> {
    // Fails only if a provider is already installed: then that one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::wrap(Kind::Failure, StartError(error)))?;
    runtime.block_on(command::run(cli, ui))
}

/// The runtime does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start")]
struct StartError(#[source] std::io::Error);
