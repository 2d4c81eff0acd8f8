//! Against a fake Podman service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::port::Port;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::model::container::ContainerState;

const OK: &str = "200 OK";
const NONE: &str = "404 Not Found";

/// The service, and the requests it got: `METHOD /PATH` each, without the version prefix.
struct Service {
    podman: Podman,
    asked: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
    _serving: AbortOnDropHandle<()>,
}

impl Service {
    /// It answers with a status, headers if any, and a body.
    fn new(mut answer: impl FnMut(&str) -> (&'static str, Value) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 8 * 1024];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]);
                let mut words = request.split(' ');
                let (method, path) = (words.next().unwrap(), words.next().unwrap());
                let path = path.trim_start_matches("/v4.0.0/libpod").trim_start_matches("/v1.41");
                let call = format!("{method} {path}");
                let (status, body) = answer(&call);
                noted.lock().unwrap().push(call);
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                // A client that has read enough hangs up.
                let _ = stream.write_all(body.to_string().as_bytes()).await;
            }
        });
        let podman = Podman::new(socket, HostId::new(uuid::Uuid::nil()));
        let serving = AbortOnDropHandle::new(serving);
        Self { podman, asked, _folder: folder, _serving: serving }
    }

    fn was_asked(&self, call: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked.starts_with(call))
    }
}

fn image() -> ImageReference {
    ImageReference::parse("ghcr.io/acme/web:v1").unwrap()
}

/// As Podman reports an image with this annotation.
fn told(annotation: &str) -> Value {
    let digest = format!("sha256:{}", "a".repeat(64));
    let known = format!("ghcr.io/acme/web@{digest}");
    json!({
        "Id": "17af", "Digest": digest, "RepoDigests": [known], "Annotations": {annotation: "/x"}
    })
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        name: "web".to_owned(),
        identity: Identity {
            workload: WorkloadId::app(DeploymentId::new(uuid::Uuid::nil())),
            revision: Revision::FIRST,
            slot: Slot::A,
        },
        image: image(),
        address: "127.64.0.1:8000".parse().unwrap(),
        port: Port::DEFAULT,
        limits: None,
        secret_env: BTreeMap::new(),
        empty_env: BTreeSet::new(),
    }
}

fn refused(error: ContainersError) -> String {
    match error {
        ContainersError::Image(failure) | ContainersError::Full(failure) => failure.code,
        other => panic!("{other}"),
    }
}

/// There are no containers, and the local image has this annotation.
fn with_image(annotation: &'static str) -> Service {
    Service::new(move |call| match call {
        "POST /containers/create" => ("201 Created", json!({"Id": "1"})),
        _ if call.starts_with("GET /images/") => (OK, told(annotation)),
        _ => (OK, json!([])),
    })
}

#[tokio::test]
async fn an_image_is_checked_again_before_each_create() {
    let plain = with_image("org.opencontainers.image.title");
    assert_eq!(plain.podman.create(&spec()).await.unwrap(), Created::New);
    let hostile = with_image("run.oci.hooks.stdout");
    let error = hostile.podman.create(&spec()).await.unwrap_err();
    assert_eq!(refused(error), "image_not_allowed");
    assert!(!hostile.was_asked("POST"), "{:?}", hostile.asked);
}

/// A pull may bring the same bytes with other annotations.
#[tokio::test]
async fn a_disallowed_image_does_not_count_as_present() {
    let plain = with_image("org.opencontainers.image.title");
    assert!(plain.podman.image(&image()).await.unwrap().is_some());
    let hostile = with_image("run.oci.hooks.stdout");
    assert_eq!(hostile.podman.image(&image()).await.unwrap(), None);
}

/// A refused image is removed after its pull, unless it was here before.
#[tokio::test]
async fn a_refused_image_is_removed_after_its_pull_unless_already_present() {
    for was_here in [false, true] {
        let mut pulled = was_here;
        let service = Service::new(move |call| match call {
            _ if call.starts_with("POST /images/create") => {
                pulled = true;
                (OK, json!({"status": "Download complete", "id": "a"}))
            }
            _ if call.starts_with("GET /images/") && pulled => (OK, told("run.oci.hooks.stdout")),
            _ if call.starts_with("GET /images/") => (NONE, json!({})),
            _ => (OK, json!({})),
        });
        let error = service.podman.pull(&image(), None, &|_| ()).await.unwrap_err();
        assert_eq!(refused(error), "image_not_allowed");
        assert_eq!(service.was_asked("DELETE /images/"), !was_here, "{:?}", service.asked);
    }
}

/// A created container: its annotations, and what Podman says of its files.
fn with_container(annotation: &'static str, file: fn(&str) -> &'static str) -> Service {
    Service::new(move |call| match call {
        "GET /containers/web/json" => {
            let state = json!({"Status": "created", "ExitCode": 0, "OOMKilled": false});
            (OK, json!({"State": state, "Config": {"Annotations": {annotation: "/x"}}}))
        }
        _ if call.starts_with("HEAD ") => (file(call), Value::Null),
        _ => ("204 No Content", Value::Null),
    })
}

#[tokio::test]
async fn a_container_with_runtime_annotations_is_not_started() {
    let plain = with_container("org.opencontainers.image.title", |_| NONE);
    plain.podman.start("web").await.unwrap();
    assert!(plain.was_asked("POST /containers/web/start"));
    let hostile = with_container("run.oci.hooks.stdout", |_| NONE);
    hostile.podman.start("web").await.unwrap_err();
    assert!(!hostile.was_asked("POST"), "{:?}", hostile.asked);
}

/// As Podman 4.3.1 describes a named pipe, a link to `/x/p`, and an ordinary file.
const PIPE: &str = "200 OK\r\nx-docker-container-path-stat: eyJuYW1lIjoicGFzc3dkIiwic2l6ZSI6MCwibW9kZSI6MzM1NTQ4NTIsIm10aW1lIjoiMjAyNi0xMS0yOVQyMDo0MTowMFoiLCJpc0RpciI6ZmFsc2UsImxpbmtUYXJnZXQiOiIvZXRjL3Bhc3N3ZCJ9";
const LINK: &str = "200 OK\r\nx-docker-container-path-stat: eyJuYW1lIjoicCIsInNpemUiOjQsIm1vZGUiOjEzNDIxODIzOSwibXRpbWUiOiIyMDI2LTExLTI5VDIwOjQxOjMzWiIsImlzRGlyIjpmYWxzZSwibGlua1RhcmdldCI6Ii94L3AifQ==";
const FILE: &str = "200 OK\r\nx-docker-container-path-stat: eyJuYW1lIjoicCIsInNpemUiOjQsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI2LTExLTI5VDIwOjQxOjMzWiIsImlzRGlyIjpmYWxzZSwibGlua1RhcmdldCI6Ii94L3AifQ==";

#[tokio::test]
async fn account_files_are_checked_before_each_start() {
    let all =
        |file: fn(&str) -> &'static str| with_container("org.opencontainers.image.title", file);
    for (service, starts) in [
        (all(|_| FILE), true),
        (all(|_| PIPE), false),
        (all(|call| if call.contains("path=%2Fetc%2Fgroup") { PIPE } else { FILE }), false),
        // What counts is where a link ends.
        (all(|call| if call.contains("path=%2Fx%2Fp") { FILE } else { LINK }), true),
        (all(|call| if call.contains("path=%2Fx%2Fp") { PIPE } else { LINK }), false),
    ] {
        let started = service.podman.start("web").await;
        assert_eq!(service.was_asked("POST /containers/web/start"), starts, "{:?}", service.asked);
        let refused = matches!(started, Err(ContainersError::Image(_)));
        assert!(refused != starts && started.is_ok() == starts, "{started:?}");
    }
}

/// Only its app is affected, and nobody else's container is missing from the list.
#[tokio::test]
async fn an_oversized_container_record_is_reported_and_affects_no_other() {
    let service = Service::new(|call| {
        assert!(call.starts_with("GET /containers/json"));
        let container = |name: String, note: String| {
            json!({
                "Id": "17af", "Names": [name], "State": "running", "Pid": 7,
                "Labels": {"note": note, "buddo.revision": "1"}
            })
        };
        let (few, many) = ("x".repeat(400 * 1024), "x".repeat(2 * 1024 * 1024));
        let all = [
            container("plain".to_owned(), few.clone()),
            container("large".to_owned(), many),
            container(few, String::new()),
            container("last".to_owned(), String::new()),
        ];
        (OK, json!(all))
    });
    let listed = service.podman.list().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|c| (c.name.as_str(), c.state)).collect();
    let (runs, broken) = (ContainerState::Running, ContainerState::Broken);
    assert_eq!(listed, [("plain", runs), ("large", broken), ("last", runs)]);
    let warnings = Containers::warnings(&service.podman);
    assert!(warnings.len() == 2 && warnings[0].contains("large"), "{warnings:?}");
    assert!(warnings[1].contains("17af"), "{warnings:?}");
}

#[tokio::test]
async fn an_image_with_too_many_names_is_reported_and_hides_no_other() {
    let service = Service::new(|_| {
        let names = vec!["ghcr.io/acme/web:v1"; 20_000];
        let large = json!({"Id": "17af", "Names": names, "Size": 1});
        (OK, json!([large, {"Id": "2", "Names": ["ghcr.io/acme/api:v1"], "Size": 1}]))
    });
    let images = service.podman.images().await.unwrap();
    assert_eq!(images.iter().map(|image| image.id.as_str()).collect::<Vec<_>>(), ["2"]);
    let warnings = Containers::warnings(&service.podman);
    assert!(warnings.len() == 1 && warnings[0].contains("17af"), "{warnings:?}");
}

/// Of what the policy checks no more than its bound is kept.
#[tokio::test]
async fn an_image_with_an_oversized_record_is_refused() {
    let service = Service::new(|call| match call {
        _ if call.starts_with("GET /images/") => {
            (OK, json!({"Id": "1", "Labels": {"a": "x".repeat(3 * 1024 * 1024)}}))
        }
        _ => (OK, json!([])),
    });
    let error = service.podman.create(&spec()).await.unwrap_err();
    assert_eq!(refused(error), "image_config_too_large");
}

/// Two other containers, a pod and two volumes, besides one of ours.
#[tokio::test]
async fn foreign_containers_pods_and_volumes_count_before_a_create() {
    for (max, enough) in [(7, true), (6, false)] {
        let service = Service::new(|call| match call {
            _ if call.starts_with("GET /images/") => (OK, told("com.acme.note")),
            "POST /containers/create" => ("201 Created", json!({"Id": "1"})),
            "GET /containers/json?all=true" => (OK, json!([{}, {}, {}])),
            _ if call.starts_with("GET /containers/json") => {
                (OK, json!([{"Id": "1", "Names": ["web-of-before"], "State": "running"}]))
            }
            "GET /pods/json" => (OK, json!([{}])),
            _ => (OK, json!([{}, {}])),
        });
        let podman = service.podman.clone().with_max_containers(max);
        podman.list().await.unwrap();
        match podman.create(&spec()).await {
            Ok(created) => assert!(enough && created == Created::New),
            Err(error) => assert!(!enough && refused(error) == "too_many_containers"),
        }
    }
}
