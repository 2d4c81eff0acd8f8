//! A container's log, from Podman's socket through the agent and the connection to a reader.

use std::sync::atomic::AtomicBool;

use buddo_coordinator::host_client::{CallError, Deadlines};
use buddo_shared::host_wire::log::{LogLine, LogStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;

const LONG: Deadlines = Deadlines { head: PATIENCE, idle: None };

/// Plays Podman's service: each request gets lines without end.
struct Service {
    socket: std::path::PathBuf,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
    written: Arc<AtomicUsize>,
    left: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
    _serving: AbortOnDropHandle<()>,
}

impl Service {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, written) = (Arc::<std::sync::Mutex<Vec<_>>>::default(), Arc::default());
        let left = Arc::new(AtomicBool::new(false));
        let (noted, counted, gone) = (Arc::clone(&asked), Arc::clone(&written), Arc::clone(&left));
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 8 * 1024];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]);
                noted.lock().unwrap().push(request.lines().next().unwrap().to_owned());
                let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                stream.write_all(head).await.unwrap();
                for n in 0_u64.. {
                    let text = format!("2026-05-21T10:00:00Z {n:>500}\n");
                    let mut frame = vec![2, 0, 0, 0];
                    frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    frame.extend(text.as_bytes());
                    if stream.write_all(&frame).await.is_err() {
                        break;
                    }
                    AtomicUsize::fetch_add(&counted, frame.len(), Ordering::SeqCst);
                }
                gone.store(true, Ordering::SeqCst);
            }
        });
        let serving = AbortOnDropHandle::new(serving);
        Self { socket, asked, written, left, _folder: folder, _serving: serving }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_log_that_stalls_holds_up_podmans_socket_and_nothing_else() {
    let service = Service::new();
    let logs = Podman::new(service.socket.clone(), HostId::new(uuid::Uuid::nil()));
    let pair = Pair::reading(logs, |routes| routes).await;
    let handle = pair.handle().await;
    let path = format!("/v1/deployments/{}/log?tail=10&follow=true", APP.0);
    let mut body = handle.call("read a log", get(&path), LONG).await.unwrap().into_body();
    let mut text = Vec::new();
    while text.split(|byte| *byte == b'\n').count() <= 100 {
        text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    for (n, line) in text.split(|byte| *byte == b'\n').take(100).enumerate() {
        let line: LogLine = serde_json::from_slice(line).unwrap();
        assert_eq!(line.line, format!("{n:>500}"));
        assert_eq!(line.stream, LogStream::Stderr);
        assert_eq!(line.at, Some("2026-05-21T10:00:00Z".parse().unwrap()));
    }
    let asked = service.asked.lock().unwrap().clone();
    let container = format!("/containers/{}/logs?", APP.1);
    assert!(asked[0].contains(&container) && asked[0].contains("follow=true&tail=10"), "{asked:?}");
    // Now it stalls.
    let written = settled(&service.written).await;
    assert!(written < 2 * 1024 * 1024, "{} KiB are held for one reader", written / 1024);
    pair.document_arrives().await;
    pair.report_arrives(1000).await;
    assert_eq!(service.written.load(Ordering::SeqCst), written);
    // It leaves, and Podman's follower ends.
    drop(body);
    until("ended", async || service.left.load(Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_there_is_refused_with_a_reason() {
    let logs = Podman::new("/nonexistent/s".into(), HostId::new(uuid::Uuid::nil()));
    let pair = Pair::reading(logs, |routes| routes).await;
    let handle = pair.handle().await;
    let app = APP.0;
    let other = uuid::Uuid::nil();
    for (path, status, code) in [
        (format!("/v1/deployments/{other}/log"), 404, "no_container"),
        (format!("/v1/deployments/{app}/log"), 503, "not_read"),
        (format!("/v1/deployments/{app}/log?tail=1001"), 400, "malformed_request"),
        (format!("/v1/deployments/{app}/log?tail=-1"), 400, "malformed_request"),
        (format!("/v1/deployments/{app}/log?follow=yes"), 400, "malformed_request"),
        ("/v1/deployments/my-app/log".to_owned(), 400, "malformed_request"),
    ] {
        let refused = handle.call("read a log", get(&path), LONG).await.unwrap_err();
        let CallError::Refused { status: got, code: word, .. } = refused else {
            panic!("{path}: {refused}")
        };
        assert_eq!((got.as_u16(), &*word), (status, code), "{path}");
    }
}
