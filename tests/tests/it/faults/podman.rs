//! Podman, its monitors, its port forwarder and its database.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_shared::model::secret::Secret;
use buddo_tests::api::request;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, PORT};
use buddo_tests::world::{Lease, World};
use nix::sys::signal::Signal;

use super::{Live, PATIENCE, processes, run, signal, started};

/// What forwards the ports of one container.
const FORWARDER: &str = "^rootlessport$";

/// Podman's service re-executes itself in a user namespace: two processes.
const SERVICE: &str = "^podman .*system service";

/// The API hangs for a while and then recovers: it is reported, and nothing is ended.
#[tokio::test]
async fn fm_23_a_temporary_podman_hang_is_reported_and_waited_out() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let before = started(world)?;
        let service = processes(world, SERVICE)?;
        signal(world, "-STOP", &service)?;
        // Give it something to do, or Podman would not be called for a minute.
        let other = live.api.create(&request("other", IMAGE, PORT)).await?;
        live.tells(&["warning: Podman on the app's host does not answer"]).await?;
        live.answers().await?;
        signal(world, "-CONT", &service)?;
        live.api.reaches(&other.id, Status::Running, 1).await?;
        live.tells_no_more("does not answer").await?;
        ensure!(world.service("podman")?.starts == 1, "it was ended, though it went on");
        ensure!(started(world)?.contains(before.trim()), "the app was started again");
        live.answers().await
    })
    .await
}

/// The API hangs permanently: its process is ended, and what was requested meanwhile happens.
#[tokio::test]
async fn fm_23_a_hung_podman_is_restarted_while_apps_serve() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        // The second of the two is the one that serves; the first waits for its end.
        signal(world, "-STOP", &processes(world, SERVICE)?[1..])?;
        let restarted = live.api.act(&live.id, "restart").await?;
        poll::until("the end of what hangs", PATIENCE, async || {
            live.answers().await?;
            ensure!(world.service("podman")?.starts == 2);
            Ok(())
        })
        .await?;
        live.api.reaches(&live.id, Status::Running, restarted.revision).await?;
        live.answers().await?;
        live.tells_no_more("does not answer").await
    })
    .await
}

/// The service runs but its socket's path is gone, as after a predecessor that ends late.
#[tokio::test]
async fn fm_23_a_podman_without_its_socket_is_restarted_while_apps_serve() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let before = started(world)?;
        fs::remove_file(world.layout().path("run/podman.sock"))?;
        let other = live.api.create(&request("other", IMAGE, PORT)).await?;
        live.api.reaches(&other.id, Status::Running, 1).await?;
        ensure!(world.service("podman")?.starts == 2, "it was reached without its socket");
        ensure!(started(world)?.contains(before.trim()), "the app was started again");
        live.answers().await
    })
    .await
}

/// Podman is killed in the middle of a start, and the agent with it: the container runs, nothing
/// forwards to it, and nobody knows why.
#[tokio::test]
async fn fm_23_a_start_cut_short_by_a_crash_is_repeated() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let of_others = processes(world, FORWARDER)?;
        let mut slow = request("slow", IMAGE, PORT);
        slow.env_vars = Some([("START_DELAY_MS".to_owned(), Secret::new("10000"))].into());
        let slow = live.api.create(&slow).await?;
        let forwarder = poll::until("its start", PATIENCE, async || {
            ensure!(started(world)?.contains(&slow.id));
            let mut forwarders = processes(world, FORWARDER)?;
            forwarders.retain(|pid| !of_others.contains(pid));
            ensure!(!forwarders.is_empty());
            Ok(forwarders)
        })
        .await?;
        let starts = world.service("agent")?.starts;
        world.signal("agent", Signal::SIGKILL)?;
        signal(world, "-KILL", &forwarder)?;
        live.product.agent_is_back(starts).await?;
        let reached = live.api.reaches(&slow.id, Status::Running, 1).await?;
        ensure!(reached.last_error.is_none(), "{reached:?}");
        live.answers().await
    })
    .await
}

async fn serves_from_its_second_start(world: &World) -> anyhow::Result<()> {
    poll::until("Podman's second start", PATIENCE, async || {
        ensure!(world.service("podman")?.starts == 2);
        run(world, &["podman", "ps"]).map(drop)
    })
    .await
}

/// Podman 4.3 reports once that its database is damaged, hangs from then on, and does not start
/// again. Visitors are served meanwhile by orphaned containers, which hold their
/// addresses; with a new database every app gets a new container, and the orphans are ended.
#[tokio::test]
async fn fm_19_a_damaged_podman_database_is_reported_and_apps_recreated() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let before = live.container()?;
        let idle = live.api.create(&request("idle", IMAGE, PORT)).await?;
        let unwanted = live.api.create(&request("unwanted", IMAGE, PORT)).await?;
        for created in [&idle, &unwanted] {
            live.api.reaches(&created.id, Status::Running, 1).await?;
        }
        let folder = world.layout().path("home/.local/share/containers/storage/libpod");
        let database = folder.join("bolt_state.db");
        let mut file = File::options().write(true).open(&database).context("no database")?;
        file.write_all(&[0; 4 * 4096])?;
        let other = live.api.create(&request("other", IMAGE, PORT)).await?;
        live.tells(&["is damaged: opening database", "bolt_state.db", "moves that file away"])
            .await?;
        live.answers().await?;
        live.api.destroy(&unwanted.id).await?;

        // The documented fix, without the reboot.
        fs::rename(&database, folder.join("damaged.db"))?;
        live.api.reaches(&other.id, Status::Running, 1).await?;
        live.tells_no_more("is damaged").await?;
        live.answers_again().await?;
        let names = poll::until("a container of each app", PATIENCE, async || {
            let names = live.product.containers()?;
            ensure!(names.len() == 3, "{names:?}");
            Ok(names)
        })
        .await?;
        ensure!(
            !names.contains(&before),
            "{before} is orphaned, and its address is held: {names:?}"
        );

        // The next revision needs that address: what holds it is ended.
        let next = live.api.act(&live.id, "restart").await?;
        let reached = live.api.reaches(&live.id, Status::Running, next.revision).await?;
        ensure!(reached.last_error.is_none(), "{reached:?}");
        live.answers().await?;
        poll::until("the end of the orphans", PATIENCE, async || {
            let apps = processes(world, "^/app")?;
            ensure!(apps.len() == 3, "{apps:?}");
            Ok(())
        })
        .await
    })
    .await
}

/// Podman logs no events at all: the host's containers are listed often, and it is reported.
#[tokio::test]
async fn fm_21_a_death_is_detected_by_listing_without_events() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let config = world.podman_settings();
        let text = fs::read_to_string(&config)?;
        fs::write(&config, text.replace("\"file\"", "\"none\""))?;
        world.kill_podman()?;
        serves_from_its_second_start(world).await?;
        let live = Live::up(world).await?;
        live.tells(&["Podman's events do not arrive"]).await?;
        dies_and_is_started_again(&live, world).await
    })
    .await
}

/// The stream of events ends with the service; the next death is noticed.
#[tokio::test]
async fn fm_21_events_are_followed_again_after_a_podman_restart() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let before = started(world)?;
        world.kill_podman()?;
        serves_from_its_second_start(world).await?;
        live.tells_no_more("events do not arrive").await?;
        ensure!(started(world)? == before, "a restart of Podman's service restarted the app");
        dies_and_is_started_again(&live, world).await
    })
    .await
}

async fn dies_and_is_started_again(live: &Live<'_>, world: &World) -> anyhow::Result<()> {
    let before = started(world)?;
    signal(world, "-KILL", &processes(world, "^/app")?)?;
    poll::until("the app's next start", PATIENCE, async || {
        let now = started(world)?;
        ensure!(now != before && !now.is_empty(), "{now}");
        Ok(())
    })
    .await?;
    live.answers_again().await
}

/// The monitor of a container is killed while Podman waits for the container's end.
#[tokio::test]
async fn fm_24_a_container_stuck_in_stopping_is_removed_by_force() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        // The app finishes its requests before it ends, so that stopping it takes long.
        let mut visitor = live.edge.connect(&live.host).await?;
        let slow = tokio::spawn(async move {
            visitor.send(http::Method::GET, "/slow?ms=60000", bytes::Bytes::new()).await
        });
        let name = live.container()?;
        live.api.act(&live.id, "stop").await?;
        // Podman itself may not say so: a list waits for the container's lock.
        poll::until("the stop to begin", PATIENCE, async || {
            let explained = live.product.agent_command(&["explain", "kept"])?;
            ensure!(explained.contains(&format!("now: stop {name}")), "{explained}");
            Ok(())
        })
        .await?;
        signal(world, "-KILL", &processes(world, &format!("conmon.*{name}"))?)?;
        poll::until("its removal", PATIENCE, async || {
            let left = live.product.containers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        slow.abort();
        Ok(())
    })
    .await
}

/// The port forwarder ends with the monitor, and Podman believes that all is well.
#[tokio::test]
async fn fm_24_a_container_whose_monitor_was_killed_is_replaced() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let name = live.container()?;
        signal(world, "-KILL", &processes(world, &format!("conmon.*{name}"))?)?;
        ensure!(started(world)?.contains(&name), "Podman noticed; this test proves nothing");
        live.replaced(&name).await?;
        live.answers_again().await?;
        let apps = processes(world, "^/app")?;
        ensure!(apps.len() == 1, "the old app runs on: {apps:?}");
        Ok(())
    })
    .await
}

/// Podman says 'running', the app runs, but nobody can reach it.
#[tokio::test]
async fn fm_26_a_dead_port_forwarder_is_detected_by_probing_the_host_port() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let name = live.container()?;
        signal(world, "-KILL", &processes(world, FORWARDER)?)?;
        ensure!(started(world)?.contains(&name), "Podman noticed; this test proves nothing");
        live.replaced(&name).await?;
        live.answers_again().await
    })
    .await
}

/// A foreign container is published at one of the app's addresses: it loses it when
/// the next revision needs it. So is one of another app that is orphaned.
#[tokio::test]
async fn fm_26_a_foreign_container_on_an_apps_address_loses_it() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let before = live.container()?;
        let [_, slot_b, ..] = world.layout().networks();
        let address = Ipv4Addr::from_bits(slot_b.to_bits() + 1);
        let port = format!("{address}:8000:{PORT}");
        let argv = ["podman", "run", "--detach", "--name=theirs", "--publish", &port, IMAGE];
        run(world, &argv)?;
        let next = live.api.act(&live.id, "restart").await?;
        let reached = live.api.reaches(&live.id, Status::Running, next.revision).await?;
        ensure!(reached.last_error.is_none(), "{reached:?}");
        live.answers().await?;
        let now = live.replaced(&before).await?;
        ensure!(now.ends_with("-b"), "{now}");
        ensure!(started(world)?.contains("theirs"), "the container itself is not the agent's");
        Ok(())
    })
    .await
}
