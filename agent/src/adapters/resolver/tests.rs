use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::model::live_table::{LiveTable, Target};
use crate::ports::LiveTablePublisher as _;

fn config(table: std::path::PathBuf) -> Resolver {
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    Resolver { dns: any, ask: any, table }
}

/// Over real sockets: a published table is what both the next question and the next ask see.
#[tokio::test]
async fn a_switch_takes_effect_with_the_next_query() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("live.json"));
    let file = LiveTableFile::new(config.table.clone());
    let at = |n| Ipv4Addr::new(127, 63, 9, n);
    let specials =
        SpecialAddresses { hold: at(1), stopped: at(2), suspended: at(3), missing: at(4) };
    let sockets = Sockets::open(&config).await.unwrap();
    let dns = sockets.dns.local_addr().unwrap();
    let ask = sockets.ask.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = {
        let (config, stop) = (config.clone(), stop.clone());
        tokio::spawn(async move { serve(sockets, &config, specials, stop).await })
    };
    // A missing table says nothing about which apps exist: requests are held.
    assert_eq!(lookup(dns).await, ["127.63.9.1"]);
    assert!(asked(ask).await.starts_with("HTTP/1.1 503"));
    file.publish(&LiveTable { zone: "example.test".to_owned(), ..LiveTable::default() })
        .await
        .unwrap();
    assert_eq!(lookup(dns).await, ["127.63.9.4"]);
    assert!(asked(ask).await.starts_with("HTTP/1.1 404"));
    for address in [Ipv4Addr::new(127, 64, 0, 1), Ipv4Addr::new(127, 96, 0, 1)] {
        let live = Target::Live { addresses: smallvec::smallvec![address] };
        file.publish(&LiveTable {
            zone: "example.test".to_owned(),
            apps: [("one".to_owned(), live)].into(),
            ..LiveTable::default()
        })
        .await
        .unwrap();
        assert_eq!(lookup(dns).await, [address.to_string()]);
        assert!(asked(ask).await.starts_with("HTTP/1.1 200"));
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}

async fn lookup(server: SocketAddr) -> Vec<String> {
    let mut question = Message::new(5, MessageType::Query, OpCode::Query);
    question
        .add_query(Query::query(Name::from_ascii("one.apps.internal.").unwrap(), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // First something that is not a question: it must neither be answered nor stop the server.
    socket.send_to(b"junk", server).await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 512];
    let received = tokio::time::timeout(Duration::from_secs(5), socket.recv_from(&mut buffer));
    let (length, _) = received.await.unwrap().unwrap();
    let message = Message::from_vec(&buffer[..length]).unwrap();
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

async fn asked(server: SocketAddr) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request =
        "GET /ask?domain=one.example.test HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
