//! Parses the command line, wires the parts, runs, drains.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use buddo_coordinator::args::{AdminCommand, Args, CaCommand, Command, EpochCommand};
use buddo_coordinator::auth::password::Cost;
use buddo_coordinator::config::Config;
use buddo_coordinator::crypto::ca::HostCa;
use buddo_coordinator::crypto::random::SystemRandom;
use buddo_coordinator::key_files::Keys;
use buddo_coordinator::{commands, daemon};
use buddo_runtime::clock::SystemClock;
use buddo_runtime::core_dump;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

/// Each password check allocates and frees 19 MiB. The system's allocator learns from the first one
/// that such blocks come and go, and keeps them: 101 MiB after ten logins. This one returns them,
/// immediately so with the environment of the unit in `systemd/`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A service that fails sooner than this after its start is likely to fail again in the same way.
const LASTED: Duration = Duration::from_secs(10);
/// Exiting then takes this long. Service managers restart it at once (systemd has growing pauses
/// only from 254 on), and would keep a core busy for as long as it fails.
const PAUSE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let began = Instant::now();
    let args = Args::parse();
    log_to_stderr();
    let serves = matches!(args.command, Command::Serve);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let supervised = std::env::var_os("NOTIFY_SOCKET").is_some();
            if serves && supervised && began.elapsed() < LASTED {
                std::thread::park_timeout(PAUSE);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Err(error) = core_dump::forbid() {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "keys could end up in a core dump");
    }
    // Fails only if a provider is already installed, which is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut out = io::stdout();
    if let Command::Completions { shell } = args.command {
        commands::completions(shell, &mut out);
        return Ok(());
    }
    if let Command::Man { directory } = &args.command {
        return commands::manual(directory);
    }
    let config = args.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    let clock = Arc::new(SystemClock);
    let open_ca = |config: &Config| -> Result<HostCa> { Ok(Keys::of(config)?.ca(clock.clone())?) };
    match args.command {
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
        Command::Ca(CaCommand::Show) => commands::show_ca(&open_ca(&config)?, &mut out),
        Command::Ca(command) => {
            let ca = open_ca(&config)?;
            runtime()?.block_on(commands::rotation::ca(command, &config, &ca, &*clock, &mut out))
        }
        Command::Key(command) => {
            runtime()?.block_on(commands::rotation::key(command, &config, &*clock, &mut out))
        }
        Command::Host(command) | Command::Admin(AdminCommand::Host(command)) => {
            let ca = open_ca(&config)?;
            runtime()?.block_on(commands::host(
                command,
                &config,
                &ca,
                &*clock,
                &SystemRandom,
                &mut out,
            ))
        }
        Command::App(command) | Command::Admin(AdminCommand::App(command)) => {
            runtime()?.block_on(commands::apps::app(command, &config, &*clock, &mut out))
        }
        Command::Admin(AdminCommand::Deployment(command)) => {
            runtime()?.block_on(commands::deployments::deployment(command, &config, &*clock))
        }
        Command::Admin(AdminCommand::Account(command)) => {
            runtime()?.block_on(commands::accounts::account(command, &config, &*clock, &mut out))
        }
        Command::Admin(AdminCommand::Tier(command)) => {
            runtime()?.block_on(commands::accounts::tier(command, &config, &*clock, &mut out))
        }
        Command::MasterKey(command) => runtime()?.block_on(commands::at_rest::master_key(
            command,
            &config,
            &*clock,
            &SystemRandom,
            &mut out,
        )),
        Command::Audit(command) => {
            runtime()?.block_on(commands::at_rest::audit(command, &config, &mut out))
        }
        Command::Backup { file } => {
            runtime()?.block_on(commands::at_rest::backup(&file, &config, &*clock, &mut out))
        }
        Command::Restore(restore) => {
            commands::at_rest::restore(&restore, &config, &*clock, &mut out)
        }
        Command::Clock(command) => {
            runtime()?.block_on(commands::clock(command, &config, &*clock, &mut out))
        }
        Command::Epoch(EpochCommand::Raise) => {
            runtime()?.block_on(commands::raise_epoch(&config, &*clock, &mut out))
        }
        Command::Serve => {
            let state = daemon::assemble(config, clock, Arc::new(SystemRandom), Cost::OWASP)?;
            runtime()?.block_on(daemon::run(state))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
