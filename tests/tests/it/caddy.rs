//! The agent's route files and live table against real Caddys: the distribution's and a current
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use buddo_agent::adapters::caddy::{Admin, Edge, Routes, main_file, version};
use buddo_agent::adapters::resolver::{self, LiveTableFile, Sockets};
use buddo_agent::config::{Config, Environment};
use buddo_agent::model::failed_requests::Counts;
use buddo_agent::model::live_table::{LiveTable, Target};
use buddo_agent::ports::{LiveTablePublisher as _, Proxy, RouteFiles};
use buddo_runtime::clock::{Clock as _, SystemClock};
use buddo_shared::model::name::{HostName, Subdomain};
use buddo_tests::edge::Edge as Visitors;
use buddo_tests::poll;
use buddo_tests::world::{Caddy, Lease, PortOf, World};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

const PATIENCE: Duration = Duration::from_secs(30);

/// Caddy, the resolver and the files they share, on a world's ports and addresses. Caddy runs as
/// the user of the test, as on a host it runs as the agent's user: the agent's files are only for
/// their owner.
struct Site<'a> {
    world: &'a World,
    config: Config,
    zone: HostName,
    which: Caddy,
    caddy: Child,
    _resolver: DropGuard,
}

impl<'a> Site<'a> {
    async fn up(world: &'a World, which: Caddy) -> anyhow::Result<Self> {
        let layout = world.layout();
        let root = layout.path("edge");
        let [.., special] = layout.networks();
        let text = format!(
            "state_dir = '{root}'\nruntime_dir = '{root}'\n\
             [podman]\nsocket = '{root}/podman.sock'\n\
             [caddy]\nadmin = '{root}/admin.sock'\nroutes_dir = '{root}/routes'\n\
             caddyfile = '{root}/Caddyfile'\nstorage = '{root}/storage'\n\
             edge = '{edge}'\nhttp_port = {http}\nhttps_port = {https}\n\
             issuer = {{ kind = 'internal' }}\n\
             [network]\nspecial = '{special}'\n\
             [resolver]\ndns = '{spare}'\nask = '{spare}'\ntable = '{root}/live.json'\n",
            root = root.display(),
            edge = layout.address(PortOf::Edge),
            http = layout.port(PortOf::EdgeHttp),
            https = layout.port(PortOf::Edge),
            // The world holds the usual two for the product's resolver; one is UDP, one TCP.
            spare = layout.address(PortOf::Spare),
        );
        let config = Config::parse(&text, &Environment::default())?;
        std::fs::create_dir_all(&config.caddy.routes_dir)?;
        std::fs::write(&config.caddy.caddyfile, main_file(&config))?;
        let sockets = Sockets::open(&config.resolver).await?;
        let (resolver, specials) = (config.resolver.clone(), config.network.specials());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { resolver::serve(sockets, &resolver, specials, stopped).await });
        let caddy = start(world, which, &config).await?;
        let zone = HostName::parse("apps.example.test")?;
        Ok(Self { world, config, zone, which, caddy, _resolver: stop.drop_guard() })
    }

    /// Kills Caddy and starts it again.
    async fn crash(&mut self) -> anyhow::Result<()> {
        self.caddy.kill().await?;
        self.caddy = start(self.world, self.which, &self.config).await?;
        Ok(())
    }

    fn files(&self) -> anyhow::Result<RouteFiles> {
        let edge = Edge {
            zone: &self.zone,
            network: &self.config.network,
            dns: self.config.resolver.dns,
            certificate: None,
            error_log: &self.config.caddy.error_log,
            hsts_s: self.config.caddy.hsts_s,
        };
        let subdomain = Subdomain::parse("one")?;
        let domains = [HostName::parse("www.example.org")?];
        let own = edge.domains_file(uuid::Uuid::nil().to_string().parse()?, &subdomain, &domains);
        Ok([Some(edge.zone_file()), own].into_iter().flatten().collect())
    }

    async fn publish(&self, app: Option<Target>) -> anyhow::Result<()> {
        let table = LiveTable {
            zone: self.zone.to_string(),
            apps: app.map(|target| ("one".to_owned(), target)).into_iter().collect(),
            domains: BTreeMap::from([("www.example.org".to_owned(), "one".to_owned())]),
        };
        Ok(LiveTableFile::new(self.config.resolver.table.clone()).publish(&table).await?)
    }

    /// `GET /` of a page on a special address, as Caddy's own proxy would ask it.
    async fn page(&self, address: Ipv4Addr) -> anyhow::Result<String> {
        self.page_for("one.apps.example.test", address).await
    }

    async fn page_for(&self, host: &str, address: Ipv4Addr) -> anyhow::Result<String> {
        let at = SocketAddrV4::new(address, self.config.network.app_port);
        let mut stream = TcpStream::connect(at).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

/// Starts Caddy from the files of `config`; its log is one of the world's.
async fn start(world: &World, which: Caddy, config: &Config) -> anyhow::Result<Child> {
    let log = world.layout().path("log/caddy.log");
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    let child = Command::new(which.program()?)
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&config.caddy.caddyfile)
        .env("HOME", &config.state_dir)
        .env("XDG_CONFIG_HOME", &config.state_dir)
        .env("XDG_DATA_HOME", &config.state_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("cannot run caddy")?;
    let admin = Admin::new(config.caddy.admin.clone());
    poll::until("Caddy's admin", PATIENCE, async || Ok(admin.ping().await?)).await?;
    Ok(child)
}

fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test]
async fn rendered_files_load_and_serve_pages_and_certificates(
    #[case] caddy: Caddy,
) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let mut site = Site::up(world, caddy).await?;
        site.publish(Some(Target::Stopped)).await?;
        let routes = Routes::new(&site.config)?;
        let refused = routes.apply(&site.files()?).await?;
        ensure!(refused.is_empty(), "{refused:?}");
        let specials = site.config.network.specials();
        ensure!(site.page(specials.stopped).await?.starts_with("HTTP/1.1 503"));
        ensure!(site.page(specials.suspended).await?.contains("<h1>Suspended</h1>"));
        ensure!(site.page(specials.missing).await?.starts_with("HTTP/1.1 404"));
        let hsts = "strict-transport-security: max-age=31536000\r\n";
        for page in [specials.stopped, specials.suspended, specials.missing] {
            let told = site.page(page).await?.to_lowercase();
            for header in [hsts, "x-content-type-options: nosniff\r\n", "permissions-policy: "] {
                ensure!(told.contains(header), "{header} is missing in: {told}");
            }
            // A domain belongs to its owner, who may move it to a place without HTTPS.
            let told = site.page_for("www.example.org", page).await?.to_lowercase();
            ensure!(!told.contains("strict-transport-security"), "{told}");
            ensure!(told.contains("x-content-type-options: nosniff\r\n"), "{told}");
        }
        for host in ["one.apps.example.test", "www.example.org"] {
            routes.warm(host).await?;
        }
        // `ask` says no: there is no app of that name.
        ensure!(routes.warm("two.apps.example.test").await.is_err());
        // `fm_28`: killed, Caddy comes back from the folder only.
        site.crash().await?;
        ensure!(site.page(specials.stopped).await?.starts_with("HTTP/1.1 503"));
        Ok(routes.warm("one.apps.example.test").await?)
    })
    .await
}

/// `fm_27`: beside good files, one that Caddy cannot adapt, and one whose name is taken.
#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test]
async fn fm_27_only_the_bad_route_is_refused(#[case] caddy: Caddy) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let mut site = Site::up(world, caddy).await?;
        site.publish(None).await?;
        let routes = Routes::new(&site.config)?;
        let mut good = site.files()?;
        routes.apply(&good).await?;
        good.insert(
            "app-new.caddy".to_owned(),
            "new.example.org {\n\ttls {\n\t\ton_demand\n\t}\n}\n".to_owned(),
        );
        let mut wanted = good.clone();
        for (file, text) in [
            ("app-bad.caddy", "bad.example.org {\n\tno_such_directive\n}\n"),
            ("app-twice.caddy", "www.example.org {\n\trespond no\n}\n"),
        ] {
            wanted.insert(file.to_owned(), text.to_owned());
        }
        let refused = routes.apply(&wanted).await?;
        let mut files: Vec<_> = refused.iter().map(|refused| refused.file.as_str()).collect();
        files.sort_unstable();
        ensure!(files == ["app-bad.caddy", "app-twice.caddy"], "{refused:?}");
        let written = names(&site.config.caddy.routes_dir)?;
        ensure!(written == good.into_keys().collect(), "{written:?}");
        // A Caddy can start from what was written.
        site.crash().await
    })
    .await
}

/// An administrator loads their own configuration, without the agent's routes.
#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test]
async fn fm_28_routes_dropped_by_a_manual_reload_are_restored(
    #[case] caddy: Caddy,
) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let site = Site::up(world, caddy).await?;
        site.publish(Some(Target::Stopped)).await?;
        let routes = Routes::new(&site.config)?;
        let files = site.files()?;
        routes.apply(&files).await?;
        let stopped = site.config.network.specials().stopped;
        site.page(stopped).await?;
        let main = main_file(&site.config);
        let alone: Vec<&str> = main.lines().filter(|line| !line.starts_with("import ")).collect();
        Admin::new(site.config.caddy.admin.clone()).load(&alone.join("\n")).await?;
        ensure!(site.page(stopped).await.is_err(), "the routes are still there");
        routes.apply(&files).await?;
        ensure!(site.page(stopped).await?.starts_with("HTTP/1.1 503"));
        Ok(())
    })
    .await
}

/// Simultaneous changes are spaced out, and the last of them is in force.
#[tokio::test]
async fn fm_29_reloads_are_limited_to_two_a_second() -> anyhow::Result<()> {
    const CHANGES: u32 = 6;
    Lease::run(async |world| {
        let site = Site::up(world, Caddy::Distribution).await?;
        let routes = Routes::new(&site.config)?;
        let base = site.files()?;
        routes.apply(&base).await?;
        let begun = Instant::now();
        let changes = (0..CHANGES).map(async |n| {
            let mut files = base.clone();
            let text = format!("n{n}.example.org {{\n\ttls {{\n\t\ton_demand\n\t}}\n}}\n");
            files.insert("app-storm.caddy".to_owned(), text);
            let refused = routes.apply(&files).await?;
            ensure!(refused.is_empty(), "{refused:?}");
            site.page(site.config.network.specials().missing).await
        });
        futures_util::future::try_join_all(changes).await?;
        let least = Duration::from_millis(500) * CHANGES;
        ensure!(begun.elapsed() >= least, "{:?} for {CHANGES} reloads", begun.elapsed());
        let last = std::fs::read_to_string(site.config.caddy.routes_dir.join("app-storm.caddy"))?;
        ensure!(last.starts_with(&format!("n{}.example.org", CHANGES - 1)), "{last}");
        Ok(())
    })
    .await
}

/// Auto rollback reads which app's requests fail and since when; nothing else is logged.
#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test]
async fn failed_requests_are_logged_without_personal_data(
    #[case] caddy: Caddy,
) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let site = Site::up(world, caddy).await?;
        let [slot_a, ..] = world.layout().networks();
        let address = Ipv4Addr::from_bits(slot_a.to_bits() + 1);
        let app = TcpListener::bind((address, site.config.network.app_port)).await?;
        let answers = tokio::spawn(fails_every_other_time(app));
        site.publish(Some(Target::Live { addresses: vec![address].into() })).await?;
        let routes = Routes::new(&site.config)?;
        routes.apply(&site.files()?).await?;
        for host in ["one.apps.example.test", "www.example.org"] {
            routes.warm(host).await?;
        }
        let hosts = ["one.apps.example.test", "www.example.org"];
        let names = Arc::new(hosts.map(str::to_owned).into());
        ensure!(routes.failed_requests(&names).await?.requests.counts.is_empty());
        let root = site.config.caddy.storage.join("pki/authorities/local/root.crt");
        let edge = Visitors::new(site.config.caddy.edge, &root)?;
        for host in ["one.apps.example.test", "www.example.org"] {
            for status in [500, 200, 500, 200] {
                let answer = edge.get(host, "/path-of-a-visitor?token=secret").await?;
                ensure!(answer.status == status, "{host}: {answer:?}");
            }
        }
        let seen = poll::until("the log", PATIENCE, async || {
            let seen = routes.failed_requests(&names).await?.requests;
            ensure!(seen.counts.values().map(Counts::total).sum::<u64>() == 4, "{seen:?}");
            Ok(seen)
        })
        .await?;
        ensure!(seen.counts.keys().eq(hosts), "{seen:?}");
        let now = SystemClock.now();
        // The current second is not complete yet.
        let soon = now + Duration::from_secs(2);
        let lately =
            |counts: &Counts| counts.within(now - Duration::from_mins(1), soon).count() > 0;
        ensure!(seen.counts.values().all(lately), "{seen:?}");
        let text = std::fs::read_to_string(&site.config.caddy.error_log)?;
        for private in ["secret", "path-of", "127.0.0.1", "User-Agent", "GET"] {
            ensure!(!text.contains(private), "{private} in {text}");
        }
        answers.abort();
        Ok(())
    })
    .await
}

/// A current Caddy refuses a configuration whose log cannot be opened, and does not start from it.
#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test]
async fn an_unusable_error_log_does_not_affect_routes(#[case] caddy: Caddy) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let mut site = Site::up(world, caddy).await?;
        let [slot_a, ..] = world.layout().networks();
        let address = Ipv4Addr::from_bits(slot_a.to_bits() + 1);
        site.publish(Some(Target::Live { addresses: vec![address].into() })).await?;
        let folder = site.config.caddy.error_log.parent().context("no folder")?;
        std::fs::write(folder, "in the way")?;
        let routes = Routes::new(&site.config)?;
        let refused = routes.apply(&site.files()?).await?;
        ensure!(refused.is_empty(), "{refused:?}");
        let warnings = routes.warnings().join("\n");
        ensure!(warnings.contains("caddy.error_log"), "{warnings}");
        routes.warm("one.apps.example.test").await?;
        site.crash().await?;
        routes.warm("www.example.org").await?;
        Ok(())
    })
    .await
}

/// Answers 500 and 200 in turn, one request per connection.
async fn fails_every_other_time(listener: TcpListener) -> std::io::Result<()> {
    for status in ["500 Broken", "200 OK"].iter().cycle() {
        let (mut stream, _) = listener.accept().await?;
        let _ = stream.read(&mut [0; 4096]).await?;
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

#[rstest]
#[case::distribution(Caddy::Distribution)]
#[case::current(Caddy::Current)]
#[tokio::test]
async fn reads_the_version_of_the_running_caddy(#[case] caddy: Caddy) -> anyhow::Result<()> {
    Lease::run(async |world| {
        let site = Site::up(world, caddy).await?;
        let told = version(&site.config.caddy.admin).await.context("it reports none")?;
        let printed = Command::new(caddy.program()?).arg("version").output().await?.stdout;
        let printed = String::from_utf8(printed)?;
        ensure!(printed.trim_start_matches('v').starts_with(&told), "{told} is not {printed}");
        Ok(())
    })
    .await
}
