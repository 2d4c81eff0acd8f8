//! Podman's secrets. Podman writes the files that hold them in place, in every version up to now:
//! a kill or a full disk leaves them torn, and it then refuses everything that involves secrets.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::{CreateDeployment, Status};
use buddo_shared::model::secret::Secret;
use buddo_tests::api::request;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, PORT, ZONE};
use buddo_tests::world::{Lease, World};

use super::{Live, PATIENCE, processes, run, signal};

/// What Podman calls its secrets, and what is in them.
const NAMES: &str = "secrets.json";
const VALUES: &str = "filedriver/secretsdata.json";

fn file(world: &World, name: &str) -> PathBuf {
    world.layout().path("home/.local/share/containers/storage/secrets").join(name)
}

fn salted(subdomain: &str) -> CreateDeployment {
    let variables = [("SALT", "s1"), ("EMPTY", "")];
    let variables = variables.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    CreateDeployment {
        env_vars: Some(variables.into_iter().collect()),
        ..request(subdomain, IMAGE, PORT)
    }
}

/// The app answers, and has its environment.
async fn is_salted(live: &Live<'_>, subdomain: &str) -> anyhow::Result<()> {
    poll::until("an answer of the app", PATIENCE, async || {
        let answer = live.edge.get(&format!("{subdomain}.{ZONE}"), "/env?name=SALT").await?;
        ensure!(answer.status == 200 && answer.text() == "s1", "{answer:?}");
        // Podman stores no empty secret.
        let answer = live.edge.get(&format!("{subdomain}.{ZONE}"), "/env?name=EMPTY").await?;
        ensure!(answer.status == 200 && answer.text().is_empty(), "{answer:?}");
        Ok(())
    })
    .await
}

/// Waits until Podman knows exactly these secrets.
async fn are_left(world: &World, names: &str) -> anyhow::Result<()> {
    poll::until("secrets to be removed", PATIENCE, async || {
        let listed = run(world, &["podman", "secret", "ls", "--format={{.Name}}"])?;
        ensure!(listed.trim() == names, "{listed}");
        Ok(())
    })
    .await
}

/// The file is truncated to that many bytes, as by a kill in the middle of a write. Nothing is
/// lost: running apps keep running, ones that end are restarted with their environment,
/// new ones start, and the administrator is informed.
async fn torn(world: &World, name: &str, left: u64) -> anyhow::Result<()> {
    let live = Live::up(world).await?;
    let first = live.api.create(&salted("first")).await?;
    live.api.reaches(&first.id, Status::Running, 1).await?;
    let path = file(world, name);
    let whole = fs::read(&path)?;
    File::options().write(true).open(&path)?.set_len(left)?;

    let second = live.api.create(&salted("second")).await?;
    live.api.reaches(&second.id, Status::Running, 1).await?;
    is_salted(&live, "second").await?;
    is_salted(&live, "first").await?;
    let aside = file(world, &format!("{name}.torn"));
    let kept = fs::read(&aside).context("what was torn is not kept")?;
    ensure!(whole.starts_with(&kept) && kept.len() as u64 == left, "{} bytes", kept.len());
    live.tells(&["Podman's secrets were damaged", &aside.to_string_lossy()]).await?;

    // What it needs for a restart was written again, too.
    signal(world, "-KILL", &processes(world, "^/app")?)?;
    is_salted(&live, "first").await?;
    is_salted(&live, "second").await?;
    live.answers_again().await?;

    for id in [&first.id, &second.id] {
        live.api.destroy(id).await?;
    }
    are_left(world, "").await
}

#[tokio::test]
async fn fm_19_torn_podman_secret_names_are_set_aside_and_restored() -> anyhow::Result<()> {
    Lease::run(async |world| torn(world, NAMES, 200).await).await
}

/// As a full disk leaves it.
#[tokio::test]
async fn fm_19_emptied_podman_secret_values_are_set_aside_and_restored() -> anyhow::Result<()> {
    Lease::run(async |world| torn(world, VALUES, 0).await).await
}

/// Killed between its two writes, Podman has a name without a value, which it then neither removes
/// nor replaces. A foreign secret is left alone.
#[tokio::test]
async fn fm_19_a_half_removed_podman_secret_blocks_nothing() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let live = Live::up(world).await?;
        let note = world.layout().path("home/note");
        fs::write(&note, "theirs")?;
        run(world, &["podman", "secret", "create", "theirs", &note.to_string_lossy()])?;
        let path = file(world, VALUES);
        let before = fs::read(&path)?;
        let made = live.api.create(&salted("first")).await?;
        live.api.reaches(&made.id, Status::Running, 1).await?;
        fs::write(&path, before)?;
        live.api.destroy(&made.id).await?;
        are_left(world, "theirs").await?;
        let values = fs::read_to_string(&path)?;
        ensure!(values.contains("dGhlaXJz"), "somebody else's secret is gone: {values}");
        Ok(())
    })
    .await
}
