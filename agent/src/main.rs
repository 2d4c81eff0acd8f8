//! Parses the command line, wires the parts, runs, drains.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use buddo_agent::adapters::{caddy, resolver};
use buddo_agent::args::{Cli, Command, Join, Shown};
use buddo_agent::config::{Config, Environment, default_path};
use buddo_agent::control::join::{JoinOptions, join};
use buddo_agent::daemon;
use buddo_agent::local::doctor;
use buddo_agent::local::show::{Question, show};
use buddo_agent::process::{log, open_files};
use buddo_runtime::core_dump;
use buddo_shared::host_wire::join::JoinToken;
use buddo_shared::terminal::clean_lines;
use clap::{CommandFactory as _, Parser as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A service that fails sooner than this after its start is likely to fail that way again.
const LASTED: Duration = Duration::from_secs(10);
/// Then it waits this long before exiting. Service managers restart it at once (systemd has growing
/// pauses only from 254 on), and would keep a core busy for as long as it fails.
const PAUSE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let began = Instant::now();
    let cli = Cli::parse();
    let supervised = cli.command.serves() && std::env::var_os("NOTIFY_SOCKET").is_some();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed; then there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {}", clean_lines(&format!("{error:#}")));
            if supervised && began.elapsed() < LASTED {
                std::thread::park_timeout(PAUSE);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let config = load(cli.config);
    log::begin(config.as_ref().map(|config| config.log.format).unwrap_or_default());
    if let Err(error) = core_dump::forbid() {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "keys could end up in a core dump");
    }
    if cli.command.serves() {
        match open_files::raise() {
            Ok(files) => {
                let containers = open_files::watches();
                tracing::info!(files, containers, "limits on open files and watched containers");
            }
            Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
        }
    }
    // Fails only if a provider is already installed, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "buddo-agent", &mut script);
        return print(&script).map(|()| ExitCode::SUCCESS);
    }
    if let Command::Man { directory } = &cli.command {
        clap_mangen::generate_to(Cli::command(), directory).with_context(|| {
            format!("cannot write manual pages to {}; name an existing folder", directory.display())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        match cli.command {
            // It also reports what is wrong with the configuration.
            Command::Doctor(shown) => doctor::run(config, shown.json).await,
            other => command(other, config?).await.map(|()| ExitCode::SUCCESS),
        }
    });
    // A blocking call that hangs must not delay the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn command(command: Command, config: Config) -> Result<()> {
    let ask = |question, Shown { json }| {
        let config = &config;
        async move { show(config, &question, json).await }
    };
    match command {
        Command::Run => daemon::run(config, stop_on_signal()?).await,
        Command::Resolver => {
            let sockets = resolver::Sockets::open(&config.resolver).await?;
            let stop = stop_on_signal()?;
            sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("systemd")?;
            resolver::serve(sockets, &config.resolver, config.network.specials(), stop).await;
            Ok(())
        }
        Command::Join(options) => join_host(options, &config).await,
        Command::Status(shown) => ask(Question::Status, shown).await,
        Command::Explain { app, shown } => ask(Question::Explain(app), shown).await,
        Command::Document(shown) => ask(Question::Document, shown).await,
        Command::Routes(shown) => ask(Question::Routes, shown).await,
        Command::Events(shown) => ask(Question::Events, shown).await,
        Command::Caddyfile { write: false } => print(caddy::main_file(&config).as_bytes()),
        Command::Caddyfile { write: true } => {
            caddy::write_main_file(&config).context("cannot write Caddy's main file")
        }
        Command::Completions { .. } | Command::Man { .. } | Command::Doctor(_) => Ok(()),
    }
}

async fn join_host(options: Join, config: &Config) -> Result<()> {
    let again = options.force;
    let identity = join(&JoinOptions {
        coordinator: options.coordinator,
        token: JoinToken::parse(&options.token)?,
        advertise: options.advertise,
        state_dir: config.state_dir.clone(),
        force: options.force,
    })
    .await?;
    let mut words = format!("joined as host {} for {}\n", identity.host_id, identity.zone);
    if again {
        words.push_str("restart the agent if it runs: systemctl --user restart buddo-agent\n");
    }
    print(words.as_bytes())
}

fn load(path: Option<std::path::PathBuf>) -> Result<Config> {
    let environment = Environment::of_process();
    let candidates = path.map_or_else(|| default_path(&environment), |path| vec![path]);
    let last = candidates.last().cloned().context("no place for a configuration")?;
    let path = candidates.into_iter().find(|path| path.exists()).unwrap_or(last);
    Ok(Config::load(&path, &environment)?)
}

fn stop_on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}

fn print(bytes: &[u8]) -> Result<()> {
    std::io::stdout().lock().write_all(bytes).context("cannot write to standard output")
}
