//! Which Caddy runs. Its admin API does not tell, and the one on the `PATH` may be another: the
//! program file of the process behind the admin socket is asked.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Command;

/// `caddy version` only prints; it is abandoned after this.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest version that is accepted.
const MAX_VERSION: usize = 64;

/// The version of the Caddy that listens on the admin socket, such as `2.6.2`; `None` if unknown,
/// as when it does not run or runs as another user.
pub async fn version(admin: &Path) -> Option<String> {
    tokio::time::timeout(DEADLINE, ask(admin)).await.ok().flatten()
}

async fn ask(admin: &Path) -> Option<String> {
    let process = UnixStream::connect(admin).await.ok()?.peer_cred().ok()?.pid()?;
    let output = Command::new(format!("/proc/{process}/exe"))
        .arg("version")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    output.status.success().then(|| parse(&output.stdout)).flatten()
}

/// `v2.11.7 h1:…` or, as Debian builds it, `2.6.2`.
fn parse(printed: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(printed).ok()?.split_whitespace().next()?;
    let version = word.strip_prefix('v').unwrap_or(word);
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-+_".contains(c);
    let known = version.starts_with(|c: char| c.is_ascii_digit())
        && version.len() <= MAX_VERSION
        && version.chars().all(plain);
    known.then(|| version.to_owned())
}

/// Whether this version answers 502 to a held request that has a body: up to 2.11.1 the retry reads
/// a body that the first attempt has closed (caddyserver/caddy#7546).
pub fn loses_bodies(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next()) < (2, 11, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caddy_loses_request_bodies_before_2_11_2() {
        for (version, loses) in [
            ("2.6.2", true),
            ("2.11.1", true),
            ("2.11", true),
            ("2.11.2-beta.1", false),
            ("2.11.7", false),
            ("2.12.0", false),
            ("3.0", false),
        ] {
            assert_eq!(loses_bodies(version), loses, "{version}");
        }
    }

    #[test]
    fn versions_are_read_as_caddy_prints_them() {
        assert_eq!(parse(b"2.6.2\n").as_deref(), Some("2.6.2"));
        assert_eq!(parse(b"v2.11.7 h1:abc=\n").as_deref(), Some("2.11.7"));
        for other in [&b""[..], b"unknown\n", b"2.6<script>\n", b"\xff"] {
            assert_eq!(parse(other), None);
        }
        assert_eq!(parse("9".repeat(65).as_bytes()), None);
    }

    /// Against a running Caddy, see `tests/tests/it/caddy.rs` of buddo-tests.
    #[tokio::test]
    async fn a_stopped_caddy_has_no_version() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(version(&folder.path().join("admin.sock")).await, None);
    }
}
