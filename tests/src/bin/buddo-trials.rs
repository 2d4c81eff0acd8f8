//! `make chaos`, `make redeploys` and `make density`: the whole scenarios, on release builds.

use std::process::ExitCode;
use std::time::Duration;

use buddo_tests::load::{Mix, Plan};
use buddo_tests::product::{Limits, Options, Product};
use buddo_tests::trials::busy::BusyLoops;
use buddo_tests::trials::{chaos, density, recreate, redeploys};
use buddo_tests::world::{Caddy, Lease};
use clap::{Parser, Subcommand, ValueEnum};

/// Whole scenarios under load, on real Podman and Caddy.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, Subcommand)]
enum Trial {
    /// Kill everything at random while apps are under load and are redeployed.
    Chaos(Chaos),
    /// 100,000 requests over 20 redeploys on each Caddy, and stop-first redeploys of a slow app.
    Redeploys,
    /// As many small apps as one host can hold.
    Density(Density),
}

#[derive(Debug, clap::Args)]
struct Density {
    /// Apps in all.
    #[arg(long, default_value_t = 1_000)]
    apps: u32,
    /// Seconds for which idle usage is measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, clap::Args)]
struct Chaos {
    /// Seed of the schedule; random if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Duration.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Apps in all.
    #[arg(long, default_value_t = 20)]
    apps: u32,
    /// Requests per second, to all apps together.
    #[arg(long, default_value_t = 3_300)]
    rate: u32,
    /// Milliseconds between two events, on average.
    #[arg(long, default_value_t = 1_500)]
    pace_ms: u64,
    /// Run alongside this many threads that each keep a core busy.
    #[arg(long, default_value_t = 0)]
    busy_loops: u32,
    /// Which Caddy serves.
    #[arg(long, value_enum, default_value_t = Which::Current)]
    caddy: Which,
    /// Print the schedule, and do nothing.
    #[arg(long)]
    show: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    Distribution,
    Current,
}

impl From<Which> for Caddy {
    fn from(which: Which) -> Self {
        match which {
            Which::Distribution => Self::Distribution,
            Which::Current => Self::Current,
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Cli::parse().trial {
        Trial::Chaos(options) => runtime.block_on(run_chaos(&options))?,
        Trial::Redeploys => runtime.block_on(run_redeploys())?,
        Trial::Density(options) => runtime.block_on(run_density(&options))?,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn run_chaos(options: &Chaos) -> anyhow::Result<()> {
    let settings = chaos::Settings {
        seed: options.seed.unwrap_or_else(fresh_seed),
        length: Duration::from_secs(options.seconds),
        pace: Duration::from_millis(options.pace_ms),
        apps: options.apps,
        steady: options.apps.min(2),
        load: Plan { rate: options.rate, workers: 60, renew_after: 25, mix: Mix::Both },
    };
    println!("the same schedule again: --seed {}", settings.seed);
    if options.show {
        for (at, action) in settings.schedule() {
            println!("{:8.1} s  {action}", at.as_secs_f64());
        }
        return Ok(());
    }
    let caddy = options.caddy.into();
    Lease::run(async |world| {
        let product = Product::up(world, Options { caddy, ..Options::default() }).await?;
        let busy = BusyLoops::start(options.busy_loops);
        let outcome = chaos::run(&product, settings).await?;
        drop(busy);
        print!("{outcome}");
        outcome.verdict()
    })
    .await
}

fn fresh_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn run_redeploys() -> anyhow::Result<()> {
    for caddy in Caddy::ALL {
        Lease::run(async |world| {
            let product = Product::up(world, Options { caddy, ..Options::default() }).await?;
            let outcome = redeploys::run(&product, redeploys::Settings::WHOLE).await?;
            println!("{caddy:?} Caddy: {outcome}");
            Ok(())
        })
        .await?;
        for mix in [Mix::Get, Mix::Post] {
            Lease::run(async |world| {
                let options = Options { caddy, limits: Limits::Published, ..Options::default() };
                let product = Product::up(world, options).await?;
                let tally = recreate::run(&product, mix).await?;
                println!(
                    "{caddy:?} Caddy, stop first, {mix:?}: {} requests, {} failed, longest {:?}",
                    tally.requests,
                    tally.failed,
                    tally.percentile(100)
                );
                recreate::judge(&tally, caddy, mix)
            })
            .await?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn run_density(options: &Density) -> anyhow::Result<()> {
    let window = Duration::from_secs(options.seconds);
    let settings = density::Settings { apps: options.apps, window, restarts: 10 };
    Lease::run(async |world| {
        let caddy = Caddy::Current;
        let product = Product::up(world, Options { caddy, ..Options::default() }).await?;
        print!("{}", density::run(&product, settings).await?);
        Ok(())
    })
    .await
}
