//! The agent, Podman and Caddy: by their sockets, their files, and the processes behind them.

use std::path::{Path, PathBuf};

use buddo_runtime::error_chain::chain;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use jiff::Timestamp;
use tokio::net::{UdpSocket, UnixStream};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::gathered::{Agent, Caddy, Podman, Running, Seen, Validity};
use super::{answers, aside, containers_conf, installed, path_info, read, within};
use crate::adapters::caddy::Admin;
use crate::adapters::podman::Info;
use crate::adapters::resolver::SUFFIX;
use crate::config::Config;
use crate::local::client;
use crate::model::snapshot::HostSnapshot;
use crate::ports::RouteFiles;
use crate::process::disk_reserve::Reserve;

/// Files of the state folder that hold keys.
const KEYS: [&str; 2] = ["host.key", "sealing.key"];

pub(super) async fn agent(config: &Config) -> Agent {
    let state = config.state_dir.clone();
    let files = aside(move || {
        let keys = KEYS.map(|name| state.join(name)).into_iter();
        let keys = keys.filter_map(|path| path_info(&path).ok().map(|info| (path, info)));
        Ok((path_info(&state), keys.collect(), identity(&state)))
    });
    // If it listens on every address, any of them will do.
    let mut listen = config.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let reserve = Reserve::new(config.reserve(), config.disk.reserve);
    let (running, files, listens, dns, ask, reserve) = tokio::join!(
        within(running(&config.socket)),
        files,
        answers(listen),
        within(dns(config.resolver.dns.into())),
        answers(config.resolver.ask.into()),
        aside(move || Ok(reserve.is_whole())),
    );
    let (state_dir, keys, certificate) =
        files.unwrap_or_else(|reason: String| (Err(reason.clone()), Vec::new(), Err(reason)));
    Agent { running, state_dir, keys, certificate, listens, reserve, dns, ask }
}

async fn running(socket: &Path) -> Seen<Running> {
    let status = client::get(socket, "/v1/status").await.map_err(|error| chain(&error))?;
    let snapshot: HostSnapshot =
        serde_json::from_slice(&status).map_err(|_| "its answer is of another version")?;
    let routes = client::get(socket, "/v1/routes").await.map_err(|error| chain(&error))?;
    let routes: RouteFiles =
        serde_json::from_slice(&routes).map_err(|_| "its answer is of another version")?;
    let pid = behind(socket).await?;
    let host = snapshot.host;
    Ok(Running {
        version: host.agent_version,
        joined: snapshot.joined,
        document: host.document.map(|generation| (generation.to_string(), host.stale)),
        warnings: host.warnings,
        lacks: host.lacks.map(|lacks| *lacks),
        core_limit: aside(move || core_limit(pid)).await,
        routes: routes.into_keys().collect(),
    })
}

/// The process that made a socket.
async fn behind(socket: &Path) -> Seen<i32> {
    let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
    let stream = UnixStream::connect(socket).await.map_err(failed)?;
    let process = stream.peer_cred().map_err(failed)?.pid();
    process.ok_or_else(|| "the kernel does not say which process it is".to_owned())
}

/// The hard limit of a process's core dumps (`proc_pid_limits(5)`).
fn core_limit(pid: i32) -> Seen<Option<u64>> {
    let limits = read(Path::new(&format!("/proc/{pid}/limits")))?;
    hard_core_limit(&limits)
}

/// `None` if there is no limit.
fn hard_core_limit(limits: &str) -> Seen<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    match line.and_then(|line| line.split_whitespace().nth(1)).map(|hard| (hard, hard.parse())) {
        Some(("unlimited", _)) => Ok(None),
        Some((_, Ok(bytes))) => Ok(Some(bytes)),
        _ => Err("the kernel's table of limits has another form".to_owned()),
    }
}

/// Validity of this host's certificate; `None` if it has not joined.
fn identity(state: &Path) -> Seen<Option<Validity>> {
    if !state.join("identity.json").exists() {
        return Ok(None);
    }
    validity(&state.join("host.pem")).map(Some)
}

/// Of the first certificate of a PEM file: the one that is presented, the rest vouch for it.
fn validity(path: &Path) -> Seen<Validity> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let malformed = || format!("{} is not a certificate in PEM form", path.display());
    let text = read(path)?;
    let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| malformed())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| malformed())?;
    let dates = certificate.validity();
    let at = |seconds| Timestamp::from_second(seconds).map_err(|_| malformed());
    Ok(Validity {
        from: at(dates.not_before.timestamp())?,
        until: at(dates.not_after.timestamp())?,
    })
}

/// Queries the resolver, as Caddy does.
async fn dns(address: std::net::SocketAddr) -> Seen<()> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let name = Name::from_ascii(format!("doctor.{SUFFIX}.")).map_err(|error| error.to_string())?;
    let mut question = Message::new(0, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, RecordType::A));
    let question = question.to_vec().map_err(|error| error.to_string())?;
    let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    socket.connect(address).await.map_err(failed)?;
    socket.send(&question).await.map_err(failed)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await.map_err(failed)?;
    match Message::from_vec(&answer[..length]) {
        Ok(answer) if !answer.answers.is_empty() => Ok(()),
        _ => Err(format!("{address}: something answers that is not the resolver")),
    }
}

pub(super) async fn podman(config: &Config) -> Podman {
    let socket = &config.podman.socket;
    let (info, process) = tokio::join!(
        within(async { Info::of(socket.clone()).await.map_err(|error| chain(&error)) }),
        within(async {
            let pid = behind(socket).await?;
            aside(move || Ok((command(pid), containers_conf::keyring(pid)))).await
        }),
    );
    let (command, keyring) = process.unwrap_or_else(|reason| (Err(reason.clone()), Err(reason)));
    Podman { info, command, keyring, firewalls: installed(&["iptables", "nft"]) }
}

fn command(pid: i32) -> Seen<Vec<String>> {
    let line = read(Path::new(&format!("/proc/{pid}/cmdline")))?;
    Ok(line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

pub(super) async fn caddy(config: &Config) -> Caddy {
    let caddy = &config.caddy;
    let admin = Admin::new(caddy.admin.clone());
    let (socket, main, folder) =
        (caddy.admin.clone(), caddy.caddyfile.clone(), caddy.routes_dir.clone());
    let certificate =
        caddy.certificate.as_ref().map(|files| (files.cert.clone(), files.key.clone()));
    let files = aside(move || {
        let certificate = certificate.map(|(chain, key)| {
            // Only whether it can be read: its content is for Caddy alone.
            std::fs::File::open(&key).map_err(|error| format!("{}: {error}", key.display()))?;
            validity(&chain)
        });
        Ok((path_info(&socket), read(&main), route_files(&folder), certificate))
    });
    let (admin, version, edge, files) = tokio::join!(
        within(async { admin.ping().await.map_err(|error| chain(&error)) }),
        crate::adapters::caddy::version(&caddy.admin),
        answers(caddy.edge),
        files,
    );
    let (admin_socket, main_file, route_files, certificate) =
        files.unwrap_or_else(|reason: String| {
            (Err(reason.clone()), Err(reason.clone()), Err(reason), None)
        });
    Caddy { admin, admin_socket, version, main_file, route_files, edge, certificate }
}

/// Names of the files that Caddy loads, including foreign ones.
fn route_files(folder: &PathBuf) -> Seen<Vec<String>> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|kind| kind == "caddy") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_hard_core_limit() {
        let table = |values: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax core file size   {values}   bytes\n")
        };
        assert_eq!(hard_core_limit(&table("0   unlimited")), Ok(None));
        assert_eq!(hard_core_limit(&table("0   0")), Ok(Some(0)));
        assert!(hard_core_limit("nonsense").is_err());
    }

    #[test]
    fn reads_the_validity_of_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["host".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2026, 4, 2);
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let seen = validity(&path).unwrap();
        assert_eq!(seen.from, "2026-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(seen.until, "2026-04-02T00:00:00Z".parse().unwrap());
        std::fs::write(&path, key.serialize_pem()).unwrap();
        let error = validity(&path).unwrap_err();
        assert!(!error.contains("BEGIN"), "{error}");
    }

    #[tokio::test]
    async fn another_dns_server_is_not_taken_for_the_resolver() {
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        let (seen, ()) = tokio::join!(dns(address), async {
            let mut question = [0; 512];
            let (length, peer) = nobody.recv_from(&mut question).await.unwrap();
            nobody.send_to(&question[..length], peer).await.unwrap();
        });
        assert!(seen.unwrap_err().contains("not the resolver"));
        drop(nobody);
        assert!(dns(address).await.is_err());
    }
}
