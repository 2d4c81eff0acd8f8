//! The only part of `doctor` that looks at the host. Every look has its own deadline and fails
//! alone; no shell is used, and of other programs only the one that knows the clock.

mod containers_conf;
mod host;
mod services;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;

use super::gathered::{Facts, PathInfo, Podman, Seen, Space};
use crate::config::Config;

/// A look that takes longer has failed. Podman's longest answer is the one that reads all its
/// storage.
const DEADLINE: Duration = Duration::from_secs(10);

/// The largest file read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Gathers all facts concurrently.
pub(super) async fn gather(config: &Config, now: Timestamp) -> Facts {
    let (host, agent, podman, caddy) = tokio::join!(
        host::gather(),
        services::agent(config),
        services::podman(config),
        services::caddy(config),
    );
    let disks = disks(config, &podman).await;
    Facts { now, host, agent, podman, caddy, disks }
}

async fn disks(config: &Config, podman: &Podman) -> Vec<(&'static str, PathBuf, Seen<Space>)> {
    let storage = podman.info.as_ref().ok().and_then(|info| info.image_paths.first().cloned());
    let paths = [("disk-state", Some(config.state_dir.clone())), ("disk-images", storage)];
    let mut disks = Vec::new();
    for (check, path) in paths {
        let Some(path) = path else { continue };
        let looked = path.clone();
        let space = aside(move || space(&looked)).await;
        disks.push((check, path, space));
    }
    disks
}

fn space(path: &Path) -> Seen<Space> {
    let seen = statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Space {
        bytes: crate::process::disk_space::Space::of(&seen),
        free_inodes: seen.files_available(),
        total_inodes: seen.files(),
    })
}

/// Waits for a look until its deadline.
async fn within<T>(look: impl Future<Output = Seen<T>>) -> Seen<T> {
    let late = |_| Err(format!("no answer within {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, look).await.unwrap_or_else(late)
}

/// Looks at files: they may be on a disk that does not answer.
async fn aside<T: Send + 'static>(look: impl FnOnce() -> Seen<T> + Send + 'static) -> Seen<T> {
    within(async {
        let failed = |error: tokio::task::JoinError| Err(error.to_string());
        tokio::task::spawn_blocking(look).await.unwrap_or_else(failed)
    })
    .await
}

/// A text file, if it is not unreasonably long.
fn read(path: &Path) -> Seen<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

fn path_info(path: &Path) -> Seen<PathInfo> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata =
        std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(PathInfo { uid: metadata.uid(), mode: metadata.mode() & 0o7777 })
}

/// Whether anything accepts connections there.
async fn answers(address: std::net::SocketAddr) -> Seen<()> {
    within(async {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.map(drop).map_err(|error| format!("{address}: {error}"))
    })
    .await
}

/// Which of those programs are installed where services look for them.
fn installed(programs: &[&'static str]) -> Vec<&'static str> {
    const FOLDERS: [&str; 6] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let there = |program: &&&str| FOLDERS.iter().any(|f| Path::new(f).join(program).exists());
    programs.iter().filter(there).copied().collect()
}
