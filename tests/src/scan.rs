//! What can be reached from where this runs: the web app scans from inside its container.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};

/// A connection not established by then counts as refused.
const CONNECT: Duration = Duration::from_secs(2);
/// One that stays open and silent for this long is a service that waits for its caller.
const SETTLED: Duration = Duration::from_millis(500);

/// A DNS question for the addresses of `a.apps.internal` (RFC 1035, 4.1).
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04apps\x08internal\x00\x00\x01\x00\x01";

/// The TCP ports of `to=IP&ports=N,N` that accept a connection and keep it open, separated by
/// commas. A forwarder may accept one and close it, because nobody is behind it: that does not
/// count.
pub async fn tcp(query: Option<&str>) -> String {
    let Some((to, ports)) = parse(query) else { return "malformed".to_owned() };
    let looks = ports.into_iter().map(async |port| (port, is_open(to, port).await));
    open(futures_util::future::join_all(looks).await)
}

/// The UDP ports of `to=IP&ports=N,N` that answer a DNS question.
pub async fn udp(query: Option<&str>) -> String {
    let Some((to, ports)) = parse(query) else { return "malformed".to_owned() };
    let looks = ports.into_iter().map(async |port| (port, answers(to, port).await.is_some()));
    open(futures_util::future::join_all(looks).await)
}

fn parse(query: Option<&str>) -> Option<(IpAddr, Vec<u16>)> {
    let (to, ports) = query?.strip_prefix("to=")?.split_once("&ports=")?;
    let ports = ports.split(',').map(|port| port.parse().ok()).collect::<Option<_>>()?;
    Some((to.parse().ok()?, ports))
}

fn open(looks: Vec<(u16, bool)>) -> String {
    let mut text = String::new();
    for (port, _) in looks.into_iter().filter(|(_, open)| *open) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{port}");
    }
    text
}

async fn is_open(to: IpAddr, port: u16) -> bool {
    let connect = tokio::time::timeout(CONNECT, TcpStream::connect((to, port))).await;
    let Ok(Ok(mut stream)) = connect else { return false };
    let mut byte = [0];
    match tokio::time::timeout(SETTLED, stream.read(&mut byte)).await {
        Err(_) => true,
        Ok(read) => read.is_ok_and(|bytes| bytes > 0),
    }
}

async fn answers(to: IpAddr, port: u16) -> Option<()> {
    let own: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0)).await.ok()?;
    socket.connect((to, port)).await.ok()?;
    socket.send(QUESTION).await.ok()?;
    let mut answer = [0; 512];
    tokio::time::timeout(CONNECT, socket.recv(&mut answer)).await.ok()?.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_hangs_up_at_once_does_not_count_as_open() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rude = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap().port();
        let query = format!("to=127.0.0.1&ports={},{}", port(&rude), port(&silent));
        let hang_up = async {
            loop {
                drop(rude.accept().await);
            }
        };
        let open =
            tokio::select! { open = tcp(Some(&query)) => open, () = hang_up => unreachable!() };
        assert_eq!(open, port(&silent).to_string());
        assert_eq!(tcp(Some("to=here&ports=1")).await, "malformed");
    }
}
