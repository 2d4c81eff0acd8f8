//! Against a real rootless Podman and a real registry. What they need is named by the environment:
//! `BUDDO_TEST_PODMAN_SOCKET`, and `BUDDO_TEST_IMAGE`, a reference that this Podman can pull: a
//! busybox whose `httpd` serves port 8080 and has `cgi-bin/env`.

#![cfg(feature = "world")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first failure")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use buddo_agent::podman::Podman;
use buddo_agent::ports::{
    Container, ContainerSpec, ContainerState, Containers, ContainersError, Created, Identity,
    ProbeOutcome, Prober, Slot,
};
use buddo_agent::probe::NetProber;
use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::ImageReference;
use buddo_shared::port::Port;
use buddo_shared::probe::{Probe, ProbeKind};
use buddo_shared::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn needed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: `make test` sets up the world and sets it"))
}

fn podman() -> Podman {
    Podman::new(needed("BUDDO_TEST_PODMAN_SOCKET").into(), Uuid::nil().to_string().parse().unwrap())
}

fn image() -> ImageReference {
    ImageReference::parse(&needed("BUDDO_TEST_IMAGE")).unwrap()
}

/// One container of its own name, address and secret; taken away at the end of a good test.
struct App {
    podman: Podman,
    spec: ContainerSpec,
}

impl App {
    async fn new(secrets: &[(&str, &str)]) -> Self {
        let podman = podman();
        let digest = podman.pull(&image(), None, &|_| ()).await.unwrap();
        let id = Uuid::new_v4();
        let [.., a, b] = *id.as_bytes();
        let mut secret_env = BTreeMap::new();
        for (index, (name, value)) in secrets.iter().enumerate() {
            let secret = format!("buddo-{id}-r1-{index}");
            podman.put_secret(&secret, &Secret::new(*value)).await.unwrap();
            secret_env.insert((*name).to_owned(), secret);
        }
        let spec = ContainerSpec {
            name: format!("buddo-{id}-r1-a"),
            identity: Identity {
                deployment: DeploymentId::new(id),
                revision: Revision::FIRST,
                slot: Slot::A,
            },
            image: image().pinned(&digest),
            address: SocketAddrV4::new(Ipv4Addr::new(127, 70, a, b.clamp(1, 254)), 8000),
            port: Port::try_from(8080).unwrap(),
            limits: None,
            secret_env,
        };
        Self { podman, spec }
    }

    async fn start(&self) {
        assert_eq!(self.podman.create(&self.spec).await.unwrap(), Created::New);
        self.podman.start(&self.spec.name).await.unwrap();
        let probe = Probe { kind: ProbeKind::Http { path: "/".to_owned() }, ..Probe::default() };
        until("the app answers", async || {
            NetProber.probe(self.spec.address, &probe).await == ProbeOutcome::Healthy
        })
        .await;
    }

    async fn listed(&self) -> Option<Container> {
        let all = self.podman.list().await.unwrap();
        all.into_iter().find(|container| container.name == self.spec.name)
    }

    /// What the app answers to `GET path`.
    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.spec.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// `podman inspect`, and the id of the process as Podman sees it.
    async fn inspect(&self) -> (String, u64) {
        let socket = needed("BUDDO_TEST_PODMAN_SOCKET");
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let request = format!(
            "GET /v4.0.0/libpod/containers/{}/json HTTP/1.0\r\nhost: d\r\n\r\n",
            self.spec.name
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        (body.to_owned(), json["State"]["Pid"].as_u64().unwrap())
    }

    async fn remove(self) {
        self.podman.remove(&self.spec.name).await.unwrap();
        assert_eq!(self.listed().await, None);
        for secret in self.spec.secret_env.values() {
            self.podman.remove_secret(secret).await.unwrap();
            self.podman.remove_secret(secret).await.unwrap();
        }
        // An absent one is success.
        self.podman.remove(&self.spec.name).await.unwrap();
        self.podman.stop(&self.spec.name, Duration::ZERO).await.unwrap();
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_container_lives_from_create_to_remove() {
    let app = App::new(&[]).await;
    let feed = app.podman.events(CancellationToken::new());
    let mut healthy = feed.healthy.clone();
    healthy.wait_for(|healthy| *healthy).await.unwrap();
    app.start().await;
    // `fm_02`: the answer to a create was lost; asking again finds the same container.
    assert_eq!(app.podman.create(&app.spec).await.unwrap(), Created::Existed);
    app.podman.start(&app.spec.name).await.unwrap();
    let listed = app.listed().await.unwrap();
    assert_eq!(listed.identity, Some(app.spec.identity));
    assert_eq!(listed.address, Some(app.spec.address));
    assert_eq!(listed.state, ContainerState::Running);
    let mut hints = feed.hints.clone();
    hints.borrow_and_update();
    app.podman.stop(&app.spec.name, Duration::from_secs(1)).await.unwrap();
    let hinted = tokio::time::timeout(Duration::from_secs(10), hints.changed()).await;
    hinted.expect("an event when a container dies").unwrap();
    let listed = app.listed().await.unwrap();
    let ContainerState::Exited(code) = listed.state else { panic!("{:?}", listed.state) };
    assert_eq!(app.podman.ending(&app.spec.name).await.unwrap().exit_code, code);
    app.remove().await;
}

/// What the kernel says of the process, as it is what counts: field names in the create call may be
/// misspelt and are ignored then.
#[tokio::test]
async fn a_container_has_few_capabilities_and_gains_none() {
    let app = App::new(&[]).await;
    app.start().await;
    let status = app.get("/cgi-bin/status").await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10.
    let allowed = 0b100_1111_1011;
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    assert_eq!(bounding & !allowed, 0, "{bounding:x}");
    app.remove().await;
}

#[tokio::test]
async fn a_secret_reaches_the_app_and_inspect_does_not_show_it() {
    let value = format!("s3cret \"quoted\" {}", Uuid::new_v4());
    let app = App::new(&[("TOKEN", &value)]).await;
    app.start().await;
    assert!(app.get("/cgi-bin/env").await.contains(&format!("TOKEN={value}")));
    let (inspect, pid) = app.inspect().await;
    assert!(pid > 0 && !inspect.contains(&value[..8]));
    app.remove().await;
}

#[tokio::test]
async fn a_pull_says_what_bytes_it_got_and_a_local_image_says_the_same() {
    let podman = podman();
    let shown = Mutex::new(Vec::new());
    let digest = podman.pull(&image(), None, &|p| shown.lock().unwrap().push(p)).await.unwrap();
    assert_eq!(podman.image(&image().pinned(&digest)).await.unwrap(), Some(digest));
    assert!(shown.into_inner().unwrap().is_sorted());
}

#[tokio::test]
async fn a_missing_image_is_named_as_such() {
    let text = format!("{}/{}:no-such-tag", image().registry(), image().repository());
    let missing = ImageReference::parse(&text).unwrap();
    let error = podman().pull(&missing, None, &|_| ()).await.unwrap_err();
    let ContainersError::Image(failure) = error else { panic!("{error}") };
    assert_eq!(failure.code, "image_not_found");
    assert!(failure.cause.contains(&text), "{}", failure.cause);
    assert_eq!(podman().image(&missing).await.unwrap(), None);
}
