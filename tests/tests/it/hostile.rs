//! Hostile images, on a real rootless Podman: the table of
//! `agent/src/adapters/podman/image_policy/rules.rs`, line by line, and cases that a refusal does
//! not cover.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use buddo_agent::adapters::podman::Podman;
use buddo_agent::adapters::probe::connection::NetProber;
use buddo_agent::model::container::{ContainerSpec, ContainerState, Created};
use buddo_agent::model::health::ProbeOutcome;
use buddo_agent::model::workload::{Identity, Slot, WorkloadId};
use buddo_agent::ports::{Containers, ContainersError, Images, Prober};
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::{Probe, ProbeKind};
use buddo_tests::image::{Layer, Written, publish_written};
use buddo_tests::product::PORT;
use buddo_tests::world::{Lease, World};
use buddo_tests::{poll, unix_http};
use serde_json::{Value, json};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

/// The registry's name for images of these tests.
const REPOSITORY: &str = "harbor.buddo.xyz:4443/demo/hostile";

/// A host with a registry from which hostile images come.
struct Host<'a> {
    world: &'a World,
    podman: Podman,
    layer: Layer,
}

impl<'a> Host<'a> {
    fn new(world: &'a World) -> anyhow::Result<Self> {
        let socket = world.layout().path("run/podman.sock");
        let podman = Podman::new(socket, Uuid::nil().to_string().parse()?);
        let layer = Layer::of_program(&world.binary("buddo-web"))?;
        Ok(Self { world, podman, layer })
    }

    async fn publish(&self, tag: &str, written: &Written) -> anyhow::Result<ImageReference> {
        publish_written(self.world, &self.layer, "demo/hostile", tag, written).await?;
        Ok(ImageReference::parse(&format!("{REPOSITORY}:{tag}"))?)
    }

    /// Stores an image and pulls it, which must be refused.
    async fn refused(&self, tag: &str, written: &Written) -> anyhow::Result<Failure> {
        let image = self.publish(tag, written).await?;
        match self.podman.pull(&image, None, &|_| ()).await {
            Err(ContainersError::Image(failure)) => Ok(failure),
            other => bail!("{tag} was not refused: {other:?}"),
        }
    }

    /// Stores an image, pulls it, and says how a container of it is created.
    async fn spec(&self, tag: &str, written: &Written) -> anyhow::Result<ContainerSpec> {
        let image = self.publish(tag, written).await?;
        let digest = self.podman.pull(&image, None, &|_| ()).await?;
        self.spec_of(image.pinned(&digest))
    }

    fn spec_of(&self, image: ImageReference) -> anyhow::Result<ContainerSpec> {
        let id = Uuid::new_v4();
        let [slots, ..] = self.world.layout().networks();
        let workload = WorkloadId::app(DeploymentId::new(id));
        Ok(ContainerSpec {
            name: format!("buddo-{id}-app-0-r1-a"),
            identity: Identity { workload, revision: Revision::FIRST, slot: Slot::A },
            image,
            address: SocketAddrV4::new(Ipv4Addr::from_bits(slots.to_bits() + 1), 8000),
            port: Port::try_from(i64::from(PORT))?,
            limits: None,
            secret_env: BTreeMap::new(),
            empty_env: BTreeSet::new(),
        })
    }

    /// Creates and starts a container, and waits until it answers.
    async fn run(&self, spec: &ContainerSpec) -> anyhow::Result<()> {
        ensure!(self.podman.create(spec).await? == Created::New);
        self.podman.start(&spec.name).await?;
        let probe = Probe { kind: ProbeKind::Http { path: "/".to_owned() }, ..Probe::default() };
        poll::until("the app's answer", PATIENCE, async || {
            let outcome = NetProber.probe(spec.address, &probe).await;
            ensure!(outcome == ProbeOutcome::Healthy, "{outcome:?}");
            Ok(())
        })
        .await
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let socket = self.world.layout().path("run/podman.sock");
        let (status, body) = unix_http::get(&socket, &format!("/v4.0.0/libpod/{path}")).await?;
        ensure!(status == 200, "{path}: {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    async fn inspect(&self, spec: &ContainerSpec) -> anyhow::Result<Value> {
        self.get(&format!("containers/{}/json", spec.name)).await
    }

    /// A command at the host's command line.
    fn podman_says(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.world.exec(std::iter::once("podman").chain(arguments.iter().copied()))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

fn annotated(key: &str) -> Written {
    Written { annotations: json!({key: "/tmp/buddo-hostile"}), ..Written::default() }
}

fn configured(config: Value) -> Written {
    Written { config, ..Written::default() }
}

/// A tag, the image, and what the refusal must name.
fn refused_images() -> Vec<(&'static str, Written, &'static str)> {
    let label = |key: &str| configured(json!({"Labels": {key: "x"}}));
    vec![
        ("oci-seccomp", annotated("run.oci.seccomp_bpf_data"), "run.oci.seccomp_bpf_data"),
        ("oci-plugins", annotated("run.oci.seccomp.plugins"), "run.oci.seccomp.plugins"),
        ("oci-hooks", annotated("run.oci.hooks.stdout"), "run.oci.hooks.stdout"),
        ("podman", annotated("io.podman.annotations.userns"), "io.podman.annotations.userns"),
        ("containers", annotated("io.containers.trace-syscall"), "io.containers.trace-syscall"),
        ("container", annotated("io.container.manager"), "io.container.manager"),
        ("systemd", annotated("org.systemd.property.MemoryMax"), "org.systemd.property.MemoryMax"),
        ("criu", annotated("org.criu.config"), "org.criu.config"),
        ("kubernetes", annotated("io.kubernetes.cri-o.TrySkipVolume"), "io.kubernetes.cri-o"),
        ("kata", annotated("io.katacontainers.config"), "io.katacontainers.config"),
        ("gvisor", annotated("dev.gvisor.flag"), "dev.gvisor.flag"),
        ("krun", annotated("krun.cpus"), "krun.cpus"),
        ("wasm", annotated("module.wasm.image/variant"), "module.wasm.image/variant"),
        ("escape", annotated("run.oci.\u{1b}[2J\n"), r"run.oci.\u{1b}[2J\n"),
        ("label-caps", label("io.containers.capabilities"), "io.containers.capabilities"),
        ("label-update", label("io.containers.autoupdate"), "io.containers.autoupdate"),
        ("label-unit", label("PODMAN_SYSTEMD_UNIT"), "PODMAN_SYSTEMD_UNIT"),
        ("label-ours", label("buddo.slot"), "buddo.slot"),
        ("env-host", configured(json!({"Env": ["*"]})), "\"*\""),
        ("env-name", configured(json!({"Env": ["=x"]})), "without a name"),
        ("signal", configured(json!({"StopSignal": "SIGNOTHING"})), "SIGNOTHING"),
        ("port", configured(json!({"ExposedPorts": {"80/sctp": {}}})), "80/sctp"),
        ("ports", configured(json!({"ExposedPorts": {"1-65535/tcp": {}}})), "65535"),
        ("os", Written { os: "wasi", ..Written::default() }, "wasi"),
    ]
}

/// `fm_51`: each refused line of the table, as served by a registry. Nothing of it stays.
#[tokio::test]
async fn fm_51_images_that_configure_the_runtime_are_refused_with_the_reason() -> anyhow::Result<()>
{
    Lease::run(async |world| {
        let host = Host::new(world)?;
        for (tag, written, named) in refused_images() {
            let failure = host.refused(tag, &written).await?;
            ensure!(failure.code == "image_not_allowed", "{tag}: {failure:?}");
            ensure!(failure.cause.contains(named), "{tag}: {failure:?}");
            let left = host.podman.images().await?;
            ensure!(left.is_empty(), "{tag} stays: {left:?}");
        }
        Ok(())
    })
    .await
}

/// `fm_51`: an image that was brought in by others is also checked before a container is created
/// from it.
#[tokio::test]
async fn fm_51_a_local_image_is_checked_before_a_create() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let host = Host::new(world)?;
        let image = host.publish("present", &annotated("run.oci.hooks.stdout")).await?;
        host.podman_says(&["pull", &*image.to_string()])?;
        if host.podman.info().await?.version.starts_with("4.3.") {
            // What is being blocked: Podman itself passes it on.
            host.podman_says(&["create", "--name", "by-hand", &*image.to_string()])?;
            let shown = host.podman_says(&["container", "inspect", "by-hand"])?;
            ensure!(shown.contains("run.oci.hooks.stdout"), "{shown}");
            host.podman_says(&["rm", "by-hand"])?;
        }
        let digest = host.podman.images().await?.into_iter().find_map(|found| found.digest);
        let spec = host.spec_of(image.pinned(&digest.context("no digest")?))?;
        let refused = host.podman.create(&spec).await;
        let Err(ContainersError::Image(failure)) = refused else { bail!("{refused:?}") };
        ensure!(failure.cause.contains("run.oci.hooks.stdout"), "{failure:?}");
        ensure!(host.podman.list().await?.is_empty());
        // It is not pulled again in vain, and not removed from under its owner.
        let Err(ContainersError::Image(_)) = host.podman.pull(&image, None, &|_| ()).await else {
            bail!("it was pulled");
        };
        ensure!(host.podman.images().await?.len() == 1);
        Ok(())
    })
    .await
}

/// `fm_51`: lines of the table that the create call overrides, and harmless ones.
#[tokio::test]
async fn fm_51_overridden_image_settings_have_no_effect() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let host = Host::new(world)?;
        let written = Written {
            annotations: json!({
                "org.opencontainers.image.title": "web",
                "com.acme.hook": "/etc/passwd",
                "weird \"key\"\n": "x",
            }),
            config: json!({
                // Podman would take this for systemd.
                "Cmd": ["/sbin/init"],
                "Labels": {"maintainer": "x", "io.podman.annotations.userns": "host"},
                "Env": ["VERSION=7", "EMPTY="],
                "StopSignal": "SIGQUIT",
                "User": "1000:1000",
                "WorkingDir": "/not/there",
                "ExposedPorts": {"8080/tcp": {}, "9000-9010/udp": {}},
                "OnBuild": ["RUN false"],
            }),
            ..Written::default()
        };
        let spec = host.spec("overridden", &written).await?;
        host.run(&spec).await?;
        let inspected = host.inspect(&spec).await?;
        let annotations = &inspected["Config"]["Annotations"];
        for key in ["com.acme.hook", "weird \"key\"\n"] {
            let value = annotations.get(key).and_then(Value::as_str).unwrap_or_default();
            ensure!(value.is_empty(), "{annotations}");
        }
        ensure!(inspected["Config"]["SystemdMode"] != json!(true), "{inspected}");
        ensure!(inspected["Config"]["User"] == json!("1000:1000"), "{inspected}");
        ensure!(inspected["Config"]["WorkingDir"] == json!("/not/there"), "{inspected}");
        ensure!(inspected["Mounts"] == json!([]), "{}", inspected["Mounts"]);
        host.podman.stop(&spec.name, Duration::from_secs(1)).await?;
        let ended = host.podman.list().await?.pop().context("it is not listed")?;
        ensure!(matches!(ended.state, ContainerState::Exited(_)), "{ended:?}");
        host.podman.remove(&spec.name).await?;
        Ok(())
    })
    .await
}

/// `fm_51`: Podman reads these files itself, and would hang forever on a pipe, blocking every list
/// of containers.
#[tokio::test]
async fn fm_51_pipes_instead_of_passwd_or_group_are_refused() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let mut host = Host::new(world)?;
        let program = world.binary("buddo-web");
        let good = host.spec("good", &Written::default()).await?;
        host.run(&good).await?;
        for (tag, path) in [("passwd", "etc/passwd"), ("group", "etc/group")] {
            host.layer = Layer::with_pipe(&program, path)?;
            let spec = host.spec(tag, &Written::default()).await?;
            ensure!(host.podman.create(&spec).await? == Created::New);
            let started = host.podman.start(&spec.name).await;
            let Err(ContainersError::Image(failure)) = started else { bail!("{started:?}") };
            ensure!(failure.cause.contains(path), "{failure:?}");
            ensure!(host.podman.list().await?.len() == 2);
            host.podman.remove(&spec.name).await?;
        }
        host.podman.remove(&good.name).await?;
        Ok(())
    })
    .await
}

/// `fm_52`: an image with much text or many layers is refused, and does not stay.
#[tokio::test]
async fn fm_52_images_with_huge_labels_or_too_many_layers_are_refused() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let host = Host::new(world)?;
        let text = |bytes: usize| "x".repeat(bytes);
        let labels = |bytes| configured(json!({"Labels": {"long": text(bytes)}}));
        let annotations =
            |bytes| Written { annotations: json!({"long": text(bytes)}), ..Written::default() };
        for (tag, written) in [
            ("labels", labels(66 * 1024)),
            ("more-labels", labels(3_900_000)),
            ("annotations", annotations(66 * 1024)),
            ("more-annotations", annotations(3_900_000)),
            ("env", configured(json!({"Env": [format!("A={}", text(66 * 1024))]}))),
        ] {
            let failure = host.refused(tag, &written).await?;
            ensure!(failure.code == "image_config_too_large", "{tag}: {failure:?}");
        }
        let many = Written { empty_layers: 127, ..Written::default() };
        let failure = host.refused("layers", &many).await?;
        ensure!(failure.code == "image_too_many_layers", "{failure:?}");
        let left = host.podman.images().await?;
        ensure!(left.is_empty(), "{left:?}");
        // Below the bounds, they run.
        let most = Written { empty_layers: 100, ..labels(60 * 1024) };
        let spec = host.spec("most", &most).await?;
        host.run(&spec).await?;
        host.podman.remove(&spec.name).await?;
        Ok(())
    })
    .await
}

/// `fm_52`: containers that somebody made from such images by hand, with labels of ours: lists have
/// 20 MB, and the app beside them is seen and served as before.
#[tokio::test]
async fn fm_52_huge_container_lists_do_not_affect_other_apps() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let host = Host::new(world)?;
        let good = host.spec("good", &Written::default()).await?;
        host.run(&good).await?;
        let huge = configured(json!({"Labels": {"long": "x".repeat(3_900_000)}}));
        let image = host.publish("huge", &huge).await?.to_string();
        host.podman_says(&["pull", &*image])?;
        let mut hostile = BTreeSet::new();
        for _ in 0..5 {
            let id = Uuid::new_v4();
            let name = format!("buddo-{id}-app-0-r1-a");
            let deployment = format!("--label=buddo.deployment={id}");
            let labels = ["service=app", "replica=0", "revision=1", "slot=a"];
            let labels = labels.map(|label| format!("--label=buddo.{label}"));
            let mut create = vec!["create", "--name", &*name, &*deployment];
            create.extend(labels.iter().map(String::as_str).chain([&*image]));
            host.podman_says(&create)?;
            hostile.insert(name);
        }

        let listed = host.podman.list().await?;
        ensure!(listed.len() == 6, "{}", listed.len());
        for container in &listed {
            let identity = container.identity.context("no identity")?;
            let expected = if container.name == good.name {
                ensure!(identity == good.identity);
                ContainerState::Running
            } else {
                ContainerState::Broken
            };
            ensure!(container.state == expected, "{container:?}");
        }
        let warnings = host.podman.warnings();
        ensure!(warnings.len() == 5, "{warnings:?}");
        for name in &hostile {
            ensure!(warnings.iter().any(|warning| warning.contains(name)), "{warnings:?}");
        }
        ensure!(host.podman.images().await?.len() == 2);
        ensure!(host.podman.orphans().await?.is_empty());

        for name in &hostile {
            host.podman.remove(name).await?;
        }
        ensure!(host.podman.list().await?.len() == 1 && host.podman.warnings().is_empty());
        host.podman.remove(&good.name).await?;
        Ok(())
    })
    .await
}

/// `fm_53`: an image's VOLUMEs create no volumes and take no locks; everything that holds locks is
/// counted, no matter who made it.
#[tokio::test]
async fn fm_53_image_volumes_are_ignored_and_every_lock_holder_counts() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let host = Host::new(world)?;
        let volumes: serde_json::Map<String, Value> =
            (0..30).map(|n| (format!("/data/{n}"), json!({}))).collect();
        let written = configured(json!({ "Volumes": volumes }));
        let spec = host.spec("volumes", &written).await?;
        host.run(&spec).await?;
        let made = host.get("volumes/json").await?;
        ensure!(made == json!([]) || made.is_null(), "{made}");
        ensure!(host.inspect(&spec).await?["Mounts"] == json!([]));

        for name in ["one", "two"] {
            host.podman_says(&["volume", "create", name])?;
        }
        host.podman_says(&["pod", "create", "--infra=false", "three"])?;
        // Our one container, two volumes and a pod.
        let next = host.spec_of(spec.image.clone())?;
        let full = host.podman.clone().with_max_containers(4);
        full.list().await?;
        let refused = full.create(&next).await;
        let Err(ContainersError::Full(failure)) = refused else { bail!("{refused:?}") };
        ensure!(failure.code == "too_many_containers", "{failure:?}");
        let larger = host.podman.clone().with_max_containers(5);
        larger.list().await?;
        ensure!(larger.create(&next).await? == Created::New);
        for name in [&next.name, &spec.name] {
            host.podman.remove(name).await?;
        }
        Ok(())
    })
    .await
}

/// `fm_54`: a health check of an image is neither run nor scheduled.
#[tokio::test]
async fn fm_54_a_health_check_of_an_image_never_runs() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let host = Host::new(world)?;
        // Nanoseconds.
        let check = json!({"Test": ["CMD", "/app"], "Interval": 1_000_000_000, "Retries": 1});
        let written = Written { docker: true, ..configured(json!({ "Healthcheck": check })) };
        let spec = host.spec("health", &written).await?;
        let known = host.get(&format!("images/{REPOSITORY}:health/json")).await?;
        ensure!(known["Healthcheck"]["Test"] == check["Test"], "Podman does not see it: {known}");
        host.run(&spec).await?;
        let inspected = host.inspect(&spec).await?;
        let left = &inspected["Config"]["Healthcheck"];
        ensure!(left["Test"] == json!(["NONE"]) || left.is_null(), "{left}");
        ensure!(left["Interval"].as_u64().unwrap_or_default() == 0, "{left}");
        let health = inspected["State"]["Health"]["Status"].as_str().unwrap_or_default();
        ensure!(health.is_empty(), "{}", inspected["State"]);
        let run = world.exec(["podman", "healthcheck", "run", &spec.name])?;
        ensure!(!run.status.success(), "there is a health check to run");
        host.podman.remove(&spec.name).await?;
        Ok(())
    })
    .await
}
