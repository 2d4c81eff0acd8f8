//! The agent's client against a real rootless Podman that pulls from a real registry.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use buddo_agent::adapters::podman::Podman;
use buddo_agent::adapters::probe::connection::NetProber;
use buddo_agent::model::container::{
    Container, ContainerSpec, ContainerState, Created, LocalImage,
};
use buddo_agent::model::health::ProbeOutcome;
use buddo_agent::model::workload::{Identity, Slot, WorkloadId};
use buddo_agent::ports::{Containers, ContainersError, Images, Prober};
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::{Probe, ProbeKind};
use buddo_shared::model::secret::Secret;
use buddo_tests::image::{Layer, publish};
use buddo_tests::product::{IMAGE, PORT};
use buddo_tests::trials::containers;
use buddo_tests::world::{Lease, World};
use buddo_tests::{poll, unix_http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

fn podman(world: &World) -> anyhow::Result<Podman> {
    let socket = world.layout().path("run/podman.sock");
    Ok(Podman::new(socket, Uuid::nil().to_string().parse()?))
}

/// Stores the web app in the world's registry; its reference there.
async fn published(world: &World) -> anyhow::Result<ImageReference> {
    let layer = Layer::of_program(&world.binary("buddo-web"))?;
    publish(world, &layer, "demo/web", "v1", &[]).await?;
    Ok(ImageReference::parse(IMAGE)?)
}

/// The world's one container, and its secrets.
struct App<'a> {
    world: &'a World,
    podman: Podman,
    spec: ContainerSpec,
}

impl<'a> App<'a> {
    /// Pulls the image and stores the secrets; the container is not created yet.
    async fn new(world: &'a World, secrets: &[(&str, &str)]) -> anyhow::Result<Self> {
        let podman = podman(world)?;
        let image = published(world).await?;
        let digest = podman.pull(&image, None, &|_| ()).await?;
        let id = Uuid::new_v4();
        let mut secret_env = BTreeMap::new();
        for (index, (name, value)) in secrets.iter().enumerate() {
            let secret = format!("buddo-{id}-app-0-r1-{index}");
            podman.put_secret(&secret, &Secret::new(*value)).await?;
            secret_env.insert((*name).to_owned(), secret);
        }
        let [slots, ..] = world.layout().networks();
        let workload = WorkloadId::app(DeploymentId::new(id));
        let spec = ContainerSpec {
            name: format!("buddo-{id}-app-0-r1-a"),
            identity: Identity { workload, revision: Revision::FIRST, slot: Slot::A },
            image: image.pinned(&digest),
            address: SocketAddrV4::new(Ipv4Addr::from_bits(slots.to_bits() + 1), 8000),
            port: Port::try_from(i64::from(PORT))?,
            limits: None,
            secret_env,
            empty_env: BTreeSet::new(),
        };
        Ok(Self { world, podman, spec })
    }

    async fn create(&self) -> anyhow::Result<()> {
        ensure!(self.podman.create(&self.spec).await? == Created::New);
        Ok(())
    }

    async fn start(&self) -> anyhow::Result<()> {
        self.podman.start(&self.spec.name).await?;
        let probe = Probe { kind: ProbeKind::Http { path: "/".to_owned() }, ..Probe::default() };
        poll::until("the app's answer", PATIENCE, async || {
            let outcome = NetProber.probe(self.spec.address, &probe).await;
            ensure!(outcome == ProbeOutcome::Healthy, "{outcome:?}");
            Ok(())
        })
        .await
    }

    async fn listed(&self) -> anyhow::Result<Option<Container>> {
        let all = self.podman.list().await?;
        Ok(all.into_iter().find(|container| container.name == self.spec.name))
    }

    /// What the app answers to `GET path`.
    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.spec.address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (_, body) = text.split_once("\r\n\r\n").context("no body")?;
        Ok(body.to_owned())
    }

    /// What Podman's API and `podman inspect` say about the container.
    async fn inspect(&self) -> anyhow::Result<[String; 2]> {
        let name = &self.spec.name;
        let socket = self.world.layout().path("run/podman.sock");
        let path = format!("/v4.0.0/libpod/containers/{name}/json");
        let (status, body) = unix_http::get(&socket, &path).await?;
        ensure!(status == 200, "status {status}");
        let output = self.world.exec(["podman", "container", "inspect", name])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = [String::from_utf8(body.to_vec())?, String::from_utf8(output.stdout)?];
        ensure!(told.iter().all(|text| text.contains(name)), "{told:?}");
        Ok(told)
    }

    async fn remove(&self) -> anyhow::Result<()> {
        self.podman.remove(&self.spec.name).await?;
        ensure!(self.listed().await?.is_none());
        for secret in self.spec.secret_env.values() {
            self.podman.remove_secret(secret).await?;
            self.podman.remove_secret(secret).await?;
        }
        // A missing one counts as success.
        self.podman.remove(&self.spec.name).await?;
        self.podman.stop(&self.spec.name, Duration::ZERO).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_container_lives_from_create_to_remove() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let app = App::new(world, &[]).await?;
        let feed = app.podman.events(CancellationToken::new());
        let mut healthy = feed.healthy.clone();
        tokio::time::timeout(PATIENCE, healthy.wait_for(|healthy| *healthy)).await??;
        app.create().await?;
        app.start().await?;
        // `fm_02`: the answer to a create was lost; asking again finds the same container.
        ensure!(app.podman.create(&app.spec).await? == Created::Existed);
        app.podman.start(&app.spec.name).await?;
        let listed = app.listed().await?.context("it is not listed")?;
        ensure!(listed.identity == Some(app.spec.identity), "{listed:?}");
        ensure!(listed.address == Some(app.spec.address), "{listed:?}");
        ensure!(listed.state == ContainerState::Running, "{listed:?}");
        let mut hints = feed.hints.clone();
        hints.borrow_and_update();
        app.podman.stop(&app.spec.name, Duration::from_secs(1)).await?;
        let hinted = tokio::time::timeout(PATIENCE, hints.changed()).await;
        hinted.context("no event when a container dies")??;
        let listed = app.listed().await?.context("it is not listed")?;
        let ContainerState::Exited(code) = listed.state else { bail!("{listed:?}") };
        ensure!(app.podman.inspect_exit(&app.spec.name).await?.exit_code == code);
        app.remove().await
    })
    .await
}

/// `fm_26`: Podman reports a container's exit before it has torn down its network. A start in
/// between used to succeed, with a running container and a port that nobody forwards.
#[tokio::test]
async fn fm_26_a_container_restarted_at_once_answers_on_its_port() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let app = App::new(world, &[]).await?;
        app.create().await?;
        app.start().await?;
        for _ in 0..5 {
            containers::kill(world, &app.spec.name).await?;
            app.start().await?;
        }
        app.remove().await
    })
    .await
}

/// What the kernel says about the process, which is what counts: misspelt field names in the create
/// call are ignored.
#[tokio::test]
async fn a_container_has_few_capabilities_and_gains_none() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let app = App::new(world, &[]).await?;
        app.create().await?;
        app.start().await?;
        let status = app.get("/status").await?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).with_context(|| format!("no {name} in {status}"))
        };
        ensure!(field("NoNewPrivs:")? == "1", "{status}");
        // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7,
        // NET_BIND_SERVICE 10.
        let allowed = 0b100_1111_1011;
        let bounding = u64::from_str_radix(field("CapBnd:")?, 16)?;
        ensure!(bounding & !allowed == 0, "{bounding:x}");
        Ok(())
    })
    .await
}

/// Podman's records name the secret, and its value is added to the environment when the container
/// starts. From then on until the container is removed, the runtime's `config.json` holds it;
/// `inspect` reads the environment from there, and Podman 4 shows it as it is.
#[tokio::test]
async fn a_secret_is_in_plain_text_only_from_start_to_removal() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let marker = format!("s3cret-{}", Uuid::new_v4());
        let value = format!("{marker} \"quoted\"");
        let app = App::new(world, &[("TOKEN", &value)]).await?;
        let shown =
            async || Ok::<_, anyhow::Error>(app.inspect().await?.map(|t| t.contains(&marker)));

        app.create().await?;
        ensure!(shown().await? == [false, false], "inspect shows it before the start");
        ensure!(holding(world, &marker)?.is_empty(), "it is stored before the start");

        app.start().await?;
        ensure!(app.get("/env?name=TOKEN").await? == value);
        let files = holding(world, &marker)?;
        let [file] = files.as_slice() else { bail!("{files:?}") };
        ensure!(file.ends_with("userdata/config.json"), "{files:?}");
        let private = file.ancestors().skip(1).map(std::fs::metadata).any(|folder| {
            folder.is_ok_and(|f| f.uid() == world.owner().uid.as_raw() && f.mode() & 0o777 == 0o700)
        });
        ensure!(private, "others may enter the folder of {files:?}");
        if app.podman.info().await?.version.starts_with("4.") {
            ensure!(shown().await? == [true, true], "Podman 4 masks it: correct the documentation");
            app.podman.stop(&app.spec.name, Duration::ZERO).await?;
            ensure!(
                shown().await? == [true, true],
                "Podman 4 forgets it: correct the documentation"
            );
        }

        app.remove().await?;
        ensure!(app.podman.secrets().await?.is_empty());
        // The container's monitor may still be tidying up.
        poll::until("the value to be gone", PATIENCE, async || {
            let files = holding(world, &marker)?;
            ensure!(files.is_empty(), "{files:?}");
            Ok(())
        })
        .await
    })
    .await
}

/// Files of the world's user that contain `text` verbatim: Podman's database, containers, secrets
/// and anything else. Only Podman's user namespace may read all of them.
fn holding(world: &World, text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let home = world.layout().path("home").to_string_lossy().into_owned();
    let search = ["podman", "unshare", "grep", "-rlF", "-e", text, &home];
    let output = world.exec(search)?;
    // 1: nothing found.
    let searched = matches!(output.status.code(), Some(0 | 1)) && output.stderr.is_empty();
    ensure!(searched, "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(PathBuf::from).collect())
}

#[tokio::test]
async fn a_pull_returns_the_digest_of_the_local_image() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let (podman, image) = (podman(world)?, published(world).await?);
        let shown = Mutex::new(Vec::new());
        let progress = |percent| {
            if let Ok(mut shown) = shown.lock() {
                shown.push(percent);
            }
        };
        let digest = podman.pull(&image, None, &progress).await?;
        ensure!(podman.image(&image.pinned(&digest)).await? == Some(digest));
        let shown = shown.into_inner()?;
        ensure!(shown.is_sorted(), "{shown:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_image_is_reported_as_not_found() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let (podman, image) = (podman(world)?, published(world).await?);
        let text = format!("{}/{}:no-such-tag", image.registry(), image.repository());
        let missing = ImageReference::parse(&text)?;
        let Err(ContainersError::Image(failure)) = podman.pull(&missing, None, &|_| ()).await
        else {
            bail!("it was pulled, or refused otherwise");
        };
        ensure!(failure.code == "image_not_found", "{failure:?}");
        ensure!(failure.cause.contains(&text), "{}", failure.cause);
        ensure!(podman.image(&missing).await?.is_none());
        Ok(())
    })
    .await
}

/// Bytes of the container's log that Podman's monitor keeps, old parts included.
fn log_bytes(app: &App<'_>) -> anyhow::Result<u64> {
    let name = &app.spec.name;
    let format = "--format={{.HostConfig.LogConfig.Path}}";
    let output = app.world.exec(["podman", "container", "inspect", format, name])?;
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let file = path.file_name().context("the log has no file")?.to_string_lossy().into_owned();
    let mut bytes = 0;
    for entry in std::fs::read_dir(path.parent().context("the log has no folder")?)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&file) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// A chatty app writes ten times its cap, and its processes have a cap on open files.
#[tokio::test]
async fn fm_47_a_containers_log_and_open_files_are_bounded() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let app = App::new(world, &[]).await?;
        app.create().await?;
        app.start().await?;
        let limits = app.get("/limits").await?;
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let files: u64 = files
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .with_context(|| limits.clone())?;
        ensure!(files <= 65_536, "{files} files may be open");
        for _ in 0..10 {
            ensure!(app.get("/log?kb=4096").await?.contains("logged"));
            let bytes = log_bytes(&app)?;
            ensure!(bytes <= 9 * 1024 * 1024, "the log has {bytes} bytes");
        }
        ensure!(log_bytes(&app)? > 0, "the log is found nowhere, so nothing was measured");
        app.remove().await
    })
    .await
}

/// A Podman with few locks runs out of them: reported as such, and resolved once one is free.
#[tokio::test]
async fn fm_25_exhausted_locks_give_a_clear_error_until_one_is_free() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let mut app = App::new(world, &[]).await?;
        let config = world.podman_settings();
        let text = std::fs::read_to_string(&config)?;
        let few = text.replace("[engine]\n", "[engine]\nnum_locks = 32\n");
        ensure!(few != text, "{text}");
        std::fs::write(&config, few)?;
        // The locks are in shared memory and are recreated with the new number.
        let owner = world.owner().uid;
        world.exec(["rm", "-f", &format!("/dev/shm/libpod_rootless_lock_{owner}")])?;
        let starts = world.service("podman")?.starts;
        world.kill_podman()?;
        poll::until("Podman's restart", PATIENCE, async || {
            ensure!(world.service("podman")?.starts > starts);
            Ok(app.podman.list().await.map(drop)?)
        })
        .await?;

        let mut made = Vec::new();
        let refused = loop {
            app.spec.name = format!("buddo-{}-app-0-r1-a", Uuid::new_v4());
            match app.podman.create(&app.spec).await {
                Ok(_) => made.push(app.spec.name.clone()),
                Err(error) => break error,
            }
            ensure!(made.len() < 64, "32 locks are enough for {} containers", made.len());
        };
        let ContainersError::Full(failure) = refused else { bail!("{refused:?}") };
        ensure!(failure.code == "too_many_containers", "{failure:?}");
        app.podman.remove(&made[0]).await?;
        ensure!(app.podman.create(&app.spec).await? == Created::New);

        // The budget refuses before Podman must.
        let budget = app.podman.clone().with_max_containers(made.len());
        budget.list().await?;
        app.spec.name = format!("buddo-{}-app-0-r1-a", Uuid::new_v4());
        let refused = budget.create(&app.spec).await;
        ensure!(matches!(&refused, Err(ContainersError::Full(_))), "{refused:?}");
        Ok(())
    })
    .await
}

/// Images as Podman lists them, and removed one by one: never one that a container uses.
#[tokio::test]
async fn only_unused_images_can_be_removed() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let app = App::new(world, &[]).await?;
        app.create().await?;
        let layer = Layer::of_program(&world.binary("buddo-web"))?;
        publish(world, &layer, "demo/other", "v1", &[("OTHER", "1")]).await?;
        let other = ImageReference::parse("harbor.buddo.xyz:4443/demo/other:v1")?;
        let digest = app.podman.pull(&other, None, &|_| ()).await?;
        let output = world.exec(["podman", "tag", &other.to_string(), "docker.io/x/second:1"])?;
        ensure!(output.status.success());

        let find = async |image: &ImageReference| {
            let images = app.podman.images().await?;
            let found = images.into_iter().find(|found| found.names.contains(image));
            anyhow::Ok::<Option<LocalImage>>(found)
        };
        let used = find(&app.spec.image).await?.context("the used one is not listed")?;
        ensure!(used.in_use && !used.foreign, "{used:?}");
        let unused = find(&other).await?.context("the unused one is not listed")?;
        ensure!(!unused.in_use && unused.bytes > 0, "{unused:?}");
        ensure!(unused.names.contains(&other.pinned(&digest)), "{unused:?}");

        let refused = app.podman.remove_image(&used).await;
        ensure!(matches!(refused, Err(ContainersError::Refused { .. })), "{refused:?}");
        app.podman.remove_image(&unused).await?;
        ensure!(find(&other).await?.is_none());
        app.podman.remove_image(&unused).await?;
        // What it shared with the other is still there: the container starts.
        app.start().await?;
        app.remove().await
    })
    .await
}

/// The tag has moved: Podman lists the older image without a name, but with its digest and its
/// former name, which identify it as ours and unused.
#[tokio::test]
async fn fm_33_an_untagged_image_is_listed_by_digest_and_removable() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let podman = podman(world)?;
        let image = published(world).await?;
        let old = podman.pull(&image, None, &|_| ()).await?;
        let layer = Layer::of_program(&world.binary("buddo-web"))?;
        publish(world, &layer, "demo/web", "v1", &[("VERSION", "2")]).await?;
        let new = podman.pull(&image, None, &|_| ()).await?;
        ensure!(old != new);

        let images = podman.images().await?;
        ensure!(images.len() == 2, "{images:?}");
        let left = images.into_iter().find(|found| found.digest.as_ref() == Some(&old));
        let left = left.context("the older image is not listed by its digest")?;
        ensure!(left.names.is_empty() && !left.foreign && !left.in_use, "{left:?}");
        ensure!(left.former.contains(&image), "{left:?}");
        podman.remove_image(&left).await?;
        let digests: Vec<_> =
            podman.images().await?.into_iter().map(|found| found.digest).collect();
        ensure!(digests == [Some(new)], "{digests:?}");
        Ok(())
    })
    .await
}

/// On the host, a container's root is the agent's own user, and can name its processes at will:
/// here the monitor of a container of another app that Podman does not know. If trusted, it would
/// keep that app from its address, and be signalled in its place.
#[tokio::test]
async fn fm_55_a_container_posing_as_conmon_is_not_trusted() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let victim = format!("buddo-{}-app-0-r1-b", Uuid::new_v4());
        let storage = world.layout().path("home/.local/share/containers/storage");
        let bundle = storage.join("overlay-containers/x/userdata");
        let line =
            format!("/usr/bin/conmon -c {} -b {} -n {victim}", "0".repeat(64), bundle.display());
        let app = App::new(world, &[("POSE_AS", &line)]).await?;
        app.create().await?;
        app.start().await?;
        let poses = || -> anyhow::Result<String> {
            let found = world.exec(["pgrep", "--full", &format!("^/usr/bin/conmon.*{victim}")])?;
            Ok(String::from_utf8(found.stdout)?)
        };
        let before = poses()?;
        ensure!(before.lines().count() == 1, "it does not even pose: {before:?}");
        let look = [
            world.binary("buddo-world").into_os_string(),
            "orphans".into(),
            world.layout().path("run/podman.sock").into_os_string(),
        ];
        let found = world.exec(&look)?;
        let said = String::from_utf8_lossy(&found.stderr);
        ensure!(found.status.success(), "{said}");
        let believed = String::from_utf8_lossy(&found.stdout);
        ensure!(believed.is_empty(), "{believed} is believed to be an orphan");
        ensure!(poses()? == before, "it was signalled as another's monitor");
        Ok(())
    })
    .await
}
