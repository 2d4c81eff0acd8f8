//! Against a real Caddy, which each test starts for itself: `BUDDO_TEST_CADDY` is its program.

#![cfg(feature = "world")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first failure")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use buddo_agent::caddy::{Edge, Routes, main_file};
use buddo_agent::config::{Config, Environment};
use buddo_agent::ports::{LiveTable, LiveTablePublisher as _, Proxy, RouteFiles, Target};
use buddo_agent::resolver::{self, LiveTableFile};
use buddo_shared::name::{HostName, Subdomain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Caddy, the resolver and what they share; addresses by process id, so that tests may run at
/// the same time.
struct World {
    config: Config,
    zone: HostName,
    caddy: Option<Child>,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl World {
    async fn new(net: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let (http, https, dns, ask, app) =
            (free_port(), free_port(), free_port(), free_port(), free_port());
        let text = format!(
            "state_dir = '{root}'\nruntime_dir = '{root}'\n\
             [podman]\nsocket = '{root}/podman.sock'\n\
             [caddy]\nadmin = '{root}/admin.sock'\nroutes_dir = '{root}/routes'\n\
             caddyfile = '{root}/Caddyfile'\nstorage = '{root}/storage'\n\
             edge = '127.0.0.1:{https}'\nhttp_port = {http}\nhttps_port = {https}\n\
             issuer = {{ kind = 'internal' }}\n\
             [network]\nspecial = '127.{net}.0.1'\napp_port = {app}\n\
             [resolver]\ndns = '127.0.0.1:{dns}'\nask = '127.0.0.1:{ask}'\n\
             table = '{root}/live.json'\n"
        );
        let config = Config::parse(&text, &Environment::default()).unwrap();
        std::fs::write(&config.caddy.caddyfile, main_file(&config)).unwrap();
        std::fs::create_dir(&config.caddy.routes_dir).unwrap();
        let stop = CancellationToken::new();
        let (resolver, specials) = (config.resolver.clone(), config.network.specials());
        let stopped = stop.clone();
        tokio::spawn(async move { resolver::run(&resolver, specials, stopped).await.unwrap() });
        let zone = HostName::parse("apps.example.test").unwrap();
        let mut world = Self { config, zone, caddy: None, folder, stop };
        world.start().await;
        world
    }

    async fn start(&mut self) {
        let program = std::env::var("BUDDO_TEST_CADDY").unwrap_or_else(|_| {
            panic!("BUDDO_TEST_CADDY is not set: `make test` sets up the world and sets it")
        });
        let log = std::fs::File::create(self.folder.path().join("caddy.log")).unwrap();
        let child = Command::new(program)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&self.config.caddy.caddyfile)
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .env("XDG_DATA_HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.caddy = Some(child);
        let admin = buddo_agent::caddy::Admin::new(self.config.caddy.admin.clone());
        let deadline = Instant::now() + Duration::from_secs(20);
        while admin.ping().await.is_err() {
            assert!(Instant::now() < deadline, "Caddy did not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("caddy.log")).unwrap_or_default()
    }

    fn edge(&self) -> Edge<'_> {
        Edge {
            zone: &self.zone,
            network: &self.config.network,
            dns: self.config.resolver.dns,
            certificate: None,
        }
    }

    fn files(&self) -> RouteFiles {
        let subdomain = Subdomain::parse("one").unwrap();
        let domains = [HostName::parse("www.example.org").unwrap()];
        let own = self.edge().domains_file(
            uuid::Uuid::nil().to_string().parse().unwrap(),
            &subdomain,
            &domains,
        );
        [Some(self.edge().zone_file()), own].into_iter().flatten().collect()
    }

    fn publish(&self, app: Option<Target>) {
        LiveTableFile::new(self.config.resolver.table.clone())
            .publish(&LiveTable {
                zone: self.zone.to_string(),
                apps: app.map(|target| ("one".to_owned(), target)).into_iter().collect(),
                domains: BTreeMap::from([("www.example.org".to_owned(), "one".to_owned())]),
            })
            .unwrap();
    }

    /// `GET /` of a page on a special address, as Caddy's own proxy would ask it.
    async fn page(&self, address: Ipv4Addr) -> String {
        let at = SocketAddrV4::new(address, self.config.network.app_port);
        let mut stream = TcpStream::connect(SocketAddr::from(at)).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: one.apps.example.test\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn rendered_files_load_and_serve_pages_and_certificates() {
    let mut world = World::new(61).await;
    world.publish(Some(Target::Stopped));
    let routes = Routes::new(&world.config).unwrap();
    let files = world.files();
    assert_eq!(routes.apply(&files).await.unwrap(), [], "{}", world.log());
    let specials = world.config.network.specials();
    assert!(world.page(specials.stopped).await.starts_with("HTTP/1.1 503"));
    assert!(world.page(specials.suspended).await.contains("<h1>Suspended</h1>"));
    assert!(world.page(specials.missing).await.starts_with("HTTP/1.1 404"));
    for host in ["one.apps.example.test", "www.example.org"] {
        routes.warm(host).await.unwrap_or_else(|error| panic!("{error}: {}", world.log()));
    }
    // `ask` says no: there is no app of that name.
    routes.warm("two.apps.example.test").await.unwrap_err();
    // `fm_28`: killed, Caddy comes back from the folder alone.
    world.caddy.take().unwrap().kill().await.unwrap();
    world.start().await;
    assert!(world.page(specials.stopped).await.starts_with("HTTP/1.1 503"));
    routes.warm("one.apps.example.test").await.unwrap();
}

/// `fm_27`: beside good files, one that Caddy cannot adapt, and one whose name is taken.
#[tokio::test]
async fn fm_27_a_bad_route_is_refused_alone() {
    let mut world = World::new(62).await;
    world.publish(None);
    let routes = Routes::new(&world.config).unwrap();
    routes.apply(&world.files()).await.unwrap();
    let mut wanted = world.files();
    wanted.insert(
        "app-bad.caddy".to_owned(),
        "bad.example.org {\n\tno_such_directive\n}\n".to_owned(),
    );
    wanted.insert("app-twice.caddy".to_owned(), "www.example.org {\n\trespond no\n}\n".to_owned());
    wanted.insert(
        "app-new.caddy".to_owned(),
        "new.example.org {\n\ttls {\n\t\ton_demand\n\t}\n}\n".to_owned(),
    );
    let refused = routes.apply(&wanted).await.unwrap();
    let mut names: Vec<_> = refused.iter().map(|refused| refused.file.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["app-bad.caddy", "app-twice.caddy"], "{refused:?}");
    let written: Vec<PathBuf> = std::fs::read_dir(&world.config.caddy.routes_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(written.len(), 3, "{written:?}");
    world.caddy.take().unwrap().kill().await.unwrap();
    world.start().await;
}

#[tokio::test]
async fn the_caddy_that_runs_tells_its_version() {
    let world = World::new(63).await;
    let version = buddo_agent::caddy::version(&world.config.caddy.admin).await.unwrap();
    let program = std::env::var("BUDDO_TEST_CADDY").unwrap();
    let printed = Command::new(program).arg("version").output().await.unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.trim_start_matches('v').starts_with(&version), "{version} is not {printed}");
}
