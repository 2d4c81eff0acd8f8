//! The two files inside of a container that Podman itself reads when it starts one.
//!
//! Podman looks the user up in `/etc/passwd` and `/etc/group` of the container, and opens them as
//! they are while it holds the container's lock (`pkg/lookup`, 4.3 to 5.x). At a named pipe it waits
//! for good, and with it every list of containers, so that one app would blind the host. An image
//! can bring such a file, and an app can leave one behind when it ends. So both are looked at before
//! each start, by a call that opens neither.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::refusal;
use super::transport::{Call, Transport, TransportError};
use crate::ports::ContainersError;
use crate::text::escape;

const OPERATION: &str = "look at the container's accounts";

/// Podman reads them whole.
const MAX_SIZE: u64 = 1024 * 1024;

/// What Go's `fs.FileMode` has set for a symbolic link, and for whatever is no regular file.
const SYMLINK: u32 = 1 << 27;
const SPECIAL: u32 = 0x8f28_0000;

/// A file as Podman describes it, without opening it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    size: u64,
    mode: u32,
    link_target: String,
}

impl Described {
    fn is_readable(&self) -> bool {
        self.mode & SPECIAL == 0 && self.size <= MAX_SIZE
    }
}

/// So many images are remembered.
const MAX_IMAGES: usize = 1_024;

/// Podman failed to say so often: it is not asked again, and the start is tried later.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(100);

/// Images whose files are ordinary ones. A container that never ran has those of its image, and an
/// image's id stands for its bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct OrdinaryImages(Arc<Mutex<HashSet<String>>>);

impl OrdinaryImages {
    fn has(&self, image: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(image)
    }

    fn add(&self, image: &str) {
        let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= MAX_IMAGES {
            images.clear();
        }
        images.insert(image.to_owned());
    }
}

/// Refuses a container at whose files Podman would wait, or read without end. `image` is the id of
/// its image where it never ran.
///
/// One after the other: Podman mounts the container for each look, and of two at once one fails now
/// and then (4.3.1: `layer is not mounted`).
pub(super) async fn check(
    transport: &Transport,
    container: &str,
    image: Option<&str>,
    ordinary: &OrdinaryImages,
) -> Result<(), ContainersError> {
    if image.is_some_and(|image| ordinary.has(image)) {
        return Ok(());
    }
    for path in ["/etc/passwd", "/etc/group"] {
        look(transport, container, path).await?;
    }
    image.into_iter().for_each(|image| ordinary.add(image));
    Ok(())
}

async fn look(transport: &Transport, container: &str, path: &str) -> Result<(), ContainersError> {
    let mut found = describe(transport, container, path).await?;
    // A link is described by where it ends, and that in its turn by its own kind.
    if let Some(link) = found.as_ref().filter(|found| found.mode & SYMLINK != 0) {
        found = describe(transport, container, &link.link_target).await?;
    }
    match found {
        Some(found) if !found.is_readable() => {
            Err(ContainersError::Image(refusal::account_file(path)))
        }
        _ => Ok(()),
    }
}

/// The file, where there is one.
async fn describe(
    transport: &Transport,
    container: &str,
    path: &str,
) -> Result<Option<Described>, ContainersError> {
    let uri = format!("containers/{}/archive?path={}", escape(container), escape(path));
    let call = Call::libpod(OPERATION, Method::HEAD, uri).deadline(Duration::from_secs(10));
    let mut tries = 1;
    let response = loop {
        let (response, _connection) = transport.open(call.clone()).await?;
        match response.status() {
            StatusCode::OK => break response,
            StatusCode::NOT_FOUND => return Ok(None),
            _ if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(BETWEEN).await;
            }
            // No app is at fault for that. Why is in the body, which an answer to HEAD has not.
            status => {
                let why = format!("{path} of the container cannot be looked at ({status})");
                let source = why.into();
                return Err(ContainersError::Unavailable { operation: OPERATION, source });
            }
        }
    };
    let header = response.headers().get("x-docker-container-path-stat");
    let described = decode(header.map(HeaderValue::as_bytes).unwrap_or_default());
    described.map(Some).map_err(|error| TransportError::Decode(error).during(OPERATION))
}

/// Base64 of JSON; Podman uses the alphabet for URLs.
fn decode(header: &[u8]) -> Result<Described, serde_json::Error> {
    let standard = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let header: Vec<u8> = header.iter().map(standard).collect();
    serde_json::from_slice(&BASE64_STANDARD.decode(header).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// Answers with these, one connection after the other; how many of them were taken.
    fn service(socket: &Path, answers: Vec<&'static str>) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                assert!(head[..read].starts_with(b"HEAD /"));
                // Nobody else asks meanwhile.
                let other =
                    tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
                assert!(other.is_err(), "two looks at once");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
    }

    const NONE: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n";
    const FAILS: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n";

    async fn checked(
        answers: Vec<&'static str>,
        starts: &[Option<&str>],
    ) -> Result<(), ContainersError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let served = service(&socket, answers);
        let (transport, ordinary) = (Transport::new(socket), OrdinaryImages::default());
        let mut last = Ok(());
        for image in starts {
            last = check(&transport, "c", *image, &ordinary).await;
        }
        served.await.unwrap();
        last
    }

    #[tokio::test]
    async fn fm_51_of_containers_that_never_ran_one_of_each_image_is_looked_at() {
        let unstarted = [Some("x"), Some("x"), Some("x")];
        checked(vec![NONE; 2], &unstarted).await.unwrap();
        checked(vec![NONE; 4], &[Some("x"), Some("y")]).await.unwrap();
        // What ran may have left anything behind.
        checked(vec![NONE; 6], &[Some("x"), None, None]).await.unwrap();
    }

    #[tokio::test]
    async fn fm_56_that_podman_cannot_look_is_no_fault_of_the_app() {
        checked(vec![FAILS, FAILS, NONE, NONE], &[None]).await.unwrap();
        let error = checked(vec![FAILS; 3], &[None]).await.unwrap_err();
        assert!(matches!(error, ContainersError::Unavailable { .. }), "{error:?}");
    }

    /// As Podman 4.3.1 sent them.
    #[test]
    fn fm_51_only_ordinary_files_of_accounts_are_read() {
        let pipe = b"eyJuYW1lIjoicGFzc3dkIiwic2l6ZSI6MCwibW9kZSI6MzM1NTQ4NTIsIm10aW1lIjoiMjAyNi0xMS0yOVQyMDo0MTowMFoiLCJpc0RpciI6ZmFsc2UsImxpbmtUYXJnZXQiOiIvZXRjL3Bhc3N3ZCJ9";
        assert!(!decode(pipe).unwrap().is_readable());
        let link = b"eyJuYW1lIjoicCIsInNpemUiOjQsIm1vZGUiOjEzNDIxODIzOSwibXRpbWUiOiIyMDI2LTExLTI5VDIwOjQxOjMzWiIsImlzRGlyIjpmYWxzZSwibGlua1RhcmdldCI6Ii94L3AifQ==";
        let link = decode(link).unwrap();
        assert!(link.mode & SYMLINK != 0 && link.link_target == "/x/p" && !link.is_readable());
        let file = |size, mode| Described { size, mode, link_target: String::new() };
        assert!(file(1_000, 0o644).is_readable() && file(0, 0o755).is_readable());
        assert!(!file(MAX_SIZE + 1, 0o644).is_readable());
        for special in [1 << 31, 1 << 26, 1 << 25, 1 << 24, 1 << 21, 1 << 19] {
            assert!(!file(0, special | 0o644).is_readable(), "{special:x}");
        }
        assert!(decode(b"").is_err() && decode(b"***").is_err());
    }
}
