//! The two files inside a container that Podman itself reads when it starts one.
//!
//! Podman looks the user up in the container's `/etc/passwd` and `/etc/group` and opens them as
//! they are, holding the container's lock (`pkg/lookup`, 4.3 to 5.x). On a named pipe it blocks
//! forever, and every container list blocks with it, so one app would blind the host. An image can
//! ship such a file, and an app can leave one behind when it exits. So both are checked on disk
//! before each start.
//!
//! Only if that is inconclusive, as with links, is Podman asked, by a call that opens neither. For
//! that call it mounts the container, and it answers before unmounting: a start in between leaves a
//! container that can no longer be mounted (4.3.1: `merged: no such file or directory`), and of two
//! such calls at once one fails. Always asking was rejected for that reason, and because it is
//! slow.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buddo_runtime::uri::escape;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::refusal;
use super::transport::{Call, Transport, TransportError};
use crate::ports::ContainersError;

const OPERATION: &str = "look at the container's accounts";

/// Podman reads them whole.
const MAX_SIZE: u64 = 1024 * 1024;

/// What Go's `fs.FileMode` sets for a symbolic link, and for anything that is not a regular file.
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

/// After this many Podman failures it is not asked again, and the start is retried later.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(100);

/// How long Podman may take to unmount, and how often that is checked.
const UNMOUNT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(10));

/// Where a container's files are, from Podman's inspect (containers/storage, driver `overlay`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct GraphDriver {
    name: String,
    data: Folders,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Folders {
    /// What the container itself wrote.
    #[serde(rename = "UpperDir")]
    upper: Option<PathBuf>,
    /// The image's layers, uppermost first, separated by colons.
    #[serde(rename = "LowerDir")]
    lower: Option<String>,
    /// Exists while it is mounted.
    #[serde(rename = "MergedDir")]
    merged: Option<PathBuf>,
}

/// Refuses a container whose files would make Podman block, or read without end.
pub(super) async fn check(
    transport: &Transport,
    container: &str,
    graph: GraphDriver,
) -> Result<(), ContainersError> {
    let merged = graph.data.merged.clone();
    // A panic tells as little as an unknown driver.
    let on_disk = tokio::task::spawn_blocking(move || graph.has_ordinary_files());
    if on_disk.await.unwrap_or_default() {
        return Ok(());
    }
    for path in ["/etc/passwd", "/etc/group"] {
        let looked = look(transport, container, path).await;
        unmounted(merged.as_deref()).await;
        looked?;
    }
    Ok(())
}

/// Waits until Podman has unmounted what it mounted.
async fn unmounted(merged: Option<&Path>) {
    let Some(merged) = merged else { return };
    let gone = async {
        while tokio::fs::symlink_metadata(merged).await.is_ok() {
            tokio::time::sleep(UNMOUNT.1).await;
        }
    };
    // If it stays, the start will show it.
    let _ = tokio::time::timeout(UNMOUNT.0, gone).await;
}

impl GraphDriver {
    /// Whether both are certain to be ordinary files or absent.
    fn has_ordinary_files(&self) -> bool {
        let Folders { upper: Some(upper), lower: Some(lower), .. } = &self.data else {
            return false;
        };
        let layers = || std::iter::once(&**upper).chain(lower.split(':').map(Path::new));
        self.name == "overlay"
            && ["passwd", "group"].into_iter().all(|file| is_ordinary(layers(), file))
    }
}

/// The uppermost layer that has the file counts.
fn is_ordinary<'a>(layers: impl Iterator<Item = &'a Path>, file: &str) -> bool {
    for layer in layers {
        let folder = layer.join("etc");
        match found(&folder) {
            Ok(None) => continue,
            Ok(Some(folder)) if folder.is_dir() => {}
            // A lower layer stays hidden.
            Ok(Some(folder)) if is_whiteout(&folder) => return true,
            Ok(Some(_)) | Err(_) => return false,
        }
        match found(&folder.join(file)) {
            Ok(None) => {}
            Ok(Some(file)) => {
                return is_whiteout(&file) || file.is_file() && file.len() <= MAX_SIZE;
            }
            Err(_) => return false,
        }
    }
    true
}

fn found(path: &Path) -> std::io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What marks a file of a lower layer as deleted (kernel, `overlayfs.rst`).
fn is_whiteout(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == 0
}

async fn look(transport: &Transport, container: &str, path: &str) -> Result<(), ContainersError> {
    let mut found = describe(transport, container, path).await?;
    // A link is described by its target, which in turn has its own kind.
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

/// The file, if it exists.
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
            // Not the app's fault. The reason is in the body, which an answer to HEAD lacks.
            status => {
                let why = format!("{path} of the container cannot be examined ({status})");
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::*;

    const NONE: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n";
    const FAILS: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n";

    /// Answers with these, one connection after the other. `merged` exists from each answer until a
    /// moment later.
    fn service(socket: &Path, answers: Vec<&'static str>, merged: PathBuf) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                assert!(head.get(..read).is_some_and(|head| head.starts_with(b"HEAD /")));
                std::fs::create_dir(&merged).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Nobody asks before it is unmounted.
                let other =
                    tokio::time::timeout(Duration::from_millis(30), listener.accept()).await;
                assert!(other.is_err() || answer == FAILS, "two looks at once");
                std::fs::remove_dir(&merged).unwrap();
            }
        })
    }

    async fn checked(
        graph: GraphDriver,
        answers: Vec<&'static str>,
    ) -> Result<(), ContainersError> {
        let folder = tempfile::tempdir().unwrap();
        let (socket, merged) = (folder.path().join("s"), folder.path().join("merged"));
        let served = service(&socket, answers, merged.clone());
        let data = Folders { merged: Some(merged.clone()), ..graph.data };
        let graph = GraphDriver { data, ..graph };
        let checked = check(&Transport::new(socket), "c", graph).await;
        assert!(!merged.exists(), "it is mounted still");
        served.await.unwrap();
        checked
    }

    /// A container of two image layers and its own; `make` changes them.
    fn on_disk(make: impl FnOnce(&Path)) -> (tempfile::TempDir, GraphDriver) {
        let folder = tempfile::tempdir().unwrap();
        let layer = |name: &str| folder.path().join(name);
        for name in ["upper", "middle", "base"] {
            std::fs::create_dir_all(layer(name).join("etc")).unwrap();
        }
        for file in ["passwd", "group"] {
            std::fs::write(layer("base").join("etc").join(file), "root").unwrap();
        }
        make(folder.path());
        let lower = format!("{}:{}", layer("middle").display(), layer("base").display());
        let data = Folders { upper: Some(layer("upper")), lower: Some(lower), merged: None };
        (folder, GraphDriver { name: "overlay".to_owned(), data })
    }

    fn pipe(path: &Path) {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    #[tokio::test]
    async fn fm_51_ordinary_account_files_are_accepted_without_asking_podman() {
        let (_folder, graph) = on_disk(|_| ());
        checked(graph, vec![]).await.unwrap();
        let (_folder, graph) = on_disk(|at| std::fs::remove_dir_all(at.join("base/etc")).unwrap());
        checked(graph, vec![]).await.unwrap();
        // Nothing below an ordinary file is seen.
        let (_folder, graph) = on_disk(|at| {
            std::fs::write(at.join("upper/etc/group"), "x").unwrap();
            pipe(&at.join("middle/etc/group"));
        });
        checked(graph, vec![]).await.unwrap();
    }

    #[test]
    fn fm_51_special_account_files_are_not_taken_for_ordinary() {
        let makes: [fn(&Path); 7] = [
            |at| pipe(&at.join("upper/etc/passwd")),
            |at| pipe(&at.join("middle/etc/group")),
            |at| std::os::unix::fs::symlink("group", at.join("upper/etc/passwd")).unwrap(),
            |at| std::fs::create_dir(at.join("middle/etc/passwd")).unwrap(),
            |at| std::fs::write(at.join("upper/etc/passwd"), vec![0; 2 * 1024 * 1024]).unwrap(),
            |at| {
                std::fs::remove_dir(at.join("upper/etc")).unwrap();
                std::os::unix::fs::symlink("tmp", at.join("upper/etc")).unwrap();
            },
            |at| {
                std::fs::remove_dir(at.join("upper/etc")).unwrap();
                std::fs::write(at.join("upper/etc"), "").unwrap();
            },
        ];
        for (number, make) in makes.into_iter().enumerate() {
            let (_folder, graph) = on_disk(make);
            assert!(!graph.has_ordinary_files(), "{number}");
        }
        let (_folder, graph) = on_disk(|_| ());
        assert!(!GraphDriver { name: "vfs".to_owned(), ..graph }.has_ordinary_files());
        assert!(!GraphDriver::default().has_ordinary_files());
    }

    #[tokio::test]
    async fn fm_51_podman_is_asked_again_only_once_it_has_unmounted_the_container() {
        checked(GraphDriver::default(), vec![NONE; 2]).await.unwrap();
    }

    #[tokio::test]
    async fn fm_56_podmans_failure_to_look_is_not_blamed_on_the_app() {
        let answers = vec![FAILS, FAILS, NONE, NONE];
        checked(GraphDriver::default(), answers).await.unwrap();
        let error = checked(GraphDriver::default(), vec![FAILS; 3]).await.unwrap_err();
        assert!(matches!(error, ContainersError::Unavailable { .. }), "{error:?}");
    }

    /// As Podman 4.3.1 sent them.
    #[test]
    fn fm_51_only_ordinary_account_files_are_readable() {
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
