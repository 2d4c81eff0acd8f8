//! What a tenant reaches from inside a container: nothing of the host except what visitors reach.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::product::{IMAGE, Options, PORT};
use buddo_tests::world::{Lease, PortOf, World};

use super::Live;

/// `slirp4netns(1)`: the gateway, which stands for the host's loopback unless that is shut, the
/// DNS forwarder, and the container's own address; then the same for IPv6.
const GATEWAYS: [&str; 4] = ["10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3"];
/// The container's own address.
const OWN: &str = "10.0.2.100";

#[tokio::test]
async fn fm_45_a_container_can_reach_only_the_hosts_public_ports() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let options = Options { listen_everywhere: true, ..Options::default() };
        let live = Live::up_with(world, options).await?;
        let neighbour = live.api.create(&request("neighbour", IMAGE, PORT)).await?;
        live.api.reaches(&neighbour.id, Status::Running, 1).await?;
        let layout = world.layout();
        let ours = ports_of(world);
        let everything = listening()?;
        ensure!(ours.is_subset(&everything), "{ours:?} are not all of {everything:?}");

        // The host's loopback by every name that it may have inside, and the neighbour's slot.
        let slots = layout.networks().map(|first| first.to_string());
        let inside = ["127.0.0.1", "::1", OWN, &slots[0], &slots[1], &slots[2]];
        for address in inside.iter().copied().chain(GATEWAYS) {
            let mut open = scan(&live, "scan", address, &everything).await?;
            // Itself, on any address that is its own.
            open.remove(&PORT);
            ensure!(open.is_empty(), "{address} is open at {open:?}");
        }
        let itself = scan(&live, "scan", OWN, &BTreeSet::from([PORT])).await?;
        ensure!(itself.contains(&PORT), "the scan does not even find the app itself");

        // The host's address on its network, as from anywhere on that network: the edge, as for
        // every visitor, and no other part. That the scan sees what is open there, one that
        // listens shows.
        if let Some(address) = outer_address() {
            let control = TcpListener::bind((Ipv4Addr::UNSPECIFIED, layout.port(PortOf::Spare)))?;
            let mut ports = ports_of(world);
            ports.insert(layout.port(PortOf::Spare));
            let open = scan(&live, "scan", &address.to_string(), &ports).await?;
            let allowed = [PortOf::Edge, PortOf::EdgeHttp, PortOf::Spare].map(|p| layout.port(p));
            ensure!(open == BTreeSet::from(allowed), "{address} is open at {open:?}");
            drop(control);
        }

        // The resolver answers only Caddy.
        let dns = BTreeSet::from([layout.port(PortOf::Dns)]);
        let outer = outer_address().map(|address| address.to_string());
        for address in GATEWAYS.into_iter().chain(outer.as_deref()) {
            let answers = scan(&live, "udp", address, &dns).await?;
            ensure!(answers.is_empty(), "the resolver answers at {address}");
        }

        // Sockets and files of the host.
        let sockets = ["podman.sock", "caddy-admin.sock", "agent.sock", "control.sock"];
        let sockets = sockets.map(|name| layout.path("run").join(name));
        for path in sockets.into_iter().chain([layout.dir(), world.owner().runtime_dir()]) {
            ensure!(fs::exists(&path)?, "{} is not even on the host", path.display());
            let query = format!("/exists?path={}", path.display());
            let answer = live.edge.get(&live.host, &query).await?.text();
            ensure!(answer == "no", "{} is inside: {answer}", path.display());
        }
        // The agent still accepts documents: the coordinator is let in, containers are not.
        live.api.act(&live.id, "restart").await?;
        live.api.reaches(&live.id, Status::Running, 2).await.map(drop)
    })
    .await
}

/// The ports among `ports` that the app gets through to at `address`.
async fn scan(
    live: &Live<'_>,
    kind: &str,
    address: &str,
    ports: &BTreeSet<u16>,
) -> anyhow::Result<BTreeSet<u16>> {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let query = format!("/{kind}?to={address}&ports={}", ports.join(","));
    let answer = live.edge.get(&live.host, &query).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let text = answer.text();
    let open = text.split(',').filter(|port| !port.is_empty());
    open.map(|port| port.parse().with_context(|| format!("{address}: {text}"))).collect()
}

/// The TCP ports of this world's parts.
fn ports_of(world: &World) -> BTreeSet<u16> {
    let parts = [
        PortOf::Registry,
        PortOf::Api,
        PortOf::Hosts,
        PortOf::Agent,
        PortOf::Ask,
        PortOf::Edge,
        PortOf::EdgeHttp,
    ];
    parts.map(|part| world.layout().port(part)).into_iter().collect()
}

/// Every TCP port that somebody on this machine listens on (`proc_net_tcp(5)`): worth a
/// look from inside.
fn listening() -> anyhow::Result<BTreeSet<u16>> {
    const LISTEN: &str = "0A";
    let mut ports = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, ..] = fields.as_slice() else { continue };
            if let (&LISTEN, Some((_, port))) = (state, local.rsplit_once(':')) {
                ports.insert(u16::from_str_radix(port, 16)?);
            }
        }
    }
    Ok(ports)
}

/// This machine's outgoing address; `None` without a network. Nothing is sent.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}
