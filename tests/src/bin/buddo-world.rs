//! `buddo-world`: throw-away container hosts, by hand and for `make demo`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use buddo_agent::adapters::podman::Podman;
use buddo_agent::model::workload::container_name;
use buddo_agent::ports::Containers as _;
use buddo_tests::demo;
use buddo_tests::world::{World, stages};
use clap::{Parser, Subcommand};

/// Throw-away container hosts with the whole product on them.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a host up with Podman and a registry; one that is up is left alone.
    Up { number: u8 },
    /// End a host and remove every trace of it.
    Down { number: u8 },
    /// List its services.
    Status { number: u8 },
    /// Run a program on it, as its user.
    Exec {
        number: u8,
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// SIGKILL one of its services; the supervisor starts it again.
    Kill { number: u8, service: String },
    /// The whole product with a live app: what `make demo` shows.
    #[command(subcommand)]
    Demo(Demo),
    #[command(hide = true)]
    Enter { number: u8 },
    #[command(hide = true)]
    Init { number: u8 },
    #[command(hide = true)]
    Inside {
        number: u8,
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    #[command(hide = true)]
    Supervise { number: u8 },
    /// Inside: what the agent's client for the Podman at this socket considers orphaned.
    #[command(hide = true)]
    Orphans { socket: PathBuf },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Demo {
    /// Start it, or find it running.
    Up,
    /// End it and remove every trace of it.
    Down,
}

fn main() -> anyhow::Result<ExitCode> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match Cli::parse().command {
        Verb::Up { number } => runtime()?.block_on(World::up(number)).map(drop)?,
        Verb::Down { number } => World::down(number)?,
        Verb::Status { number } => status(&World::attach(number)?)?,
        Verb::Exec { number, argv } => {
            let mut command: Command = World::attach(number)?.command();
            let status = command.args(argv).status().context("cannot run it")?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(u8::MAX)));
        }
        Verb::Kill { number, service } => {
            World::attach(number)?.signal(&service, nix::sys::signal::Signal::SIGKILL)?;
        }
        Verb::Demo(Demo::Up) => show(&runtime()?.block_on(demo::up())?),
        Verb::Demo(Demo::Down) => demo::down()?,
        Verb::Enter { number } => stages::enter(number)?,
        Verb::Init { number } => stages::init(number)?,
        Verb::Inside { number, argv } => stages::inside(number, &argv)?,
        Verb::Supervise { number } => stages::supervise(number)?,
        Verb::Orphans { socket } => runtime()?.block_on(end_orphans(socket))?,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn show(demo: &demo::Demo) {
    println!("Live at: {}", demo.url);
    println!("answers: {}", demo.answer.trim_end());
    println!("fetch:   {}", demo.curl);
    println!("shell:   . {}", demo.env.display());
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn end_orphans(socket: PathBuf) -> anyhow::Result<()> {
    let podman = Podman::new(socket, uuid::Uuid::nil().to_string().parse()?);
    for identity in podman.orphans().await? {
        println!("{}", container_name(&identity));
        podman.end_orphans(identity.workload, identity.slot, Duration::from_secs(1)).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn status(world: &World) -> anyhow::Result<()> {
    for service in world.services()? {
        let state = service.pid.map_or("down".to_owned(), |pid| format!("pid {pid}"));
        println!(
            "{:14} {state:10} started {}×, {} KiB",
            service.name, service.starts, service.rss_kib
        );
    }
    Ok(())
}
