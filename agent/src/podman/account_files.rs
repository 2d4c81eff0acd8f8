//! The two files inside of a container that Podman itself reads when it starts one.
//!
//! Podman looks the user up in `/etc/passwd` and `/etc/group` of the container, and opens them as
//! they are while it holds the container's lock (`pkg/lookup`, 4.3 to 5.x). At a named pipe it waits
//! for good, and with it every list of containers, so that one app would blind the host. An image
//! can bring such a file, and an app can leave one behind when it ends. So both are looked at before
//! each start, by a call that opens neither.

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

/// Refuses a container at whose files Podman would wait, or read without end.
pub(super) async fn check(transport: &Transport, container: &str) -> Result<(), ContainersError> {
    let passwd = look(transport, container, "/etc/passwd");
    let group = look(transport, container, "/etc/group");
    tokio::try_join!(passwd, group).map(drop)
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
    let (response, _connection) = transport.open(call).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        status => {
            let message = format!("{path} cannot be looked at");
            return Err(ContainersError::Refused {
                operation: OPERATION,
                status: status.as_u16(),
                message,
            });
        }
    }
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
    use super::*;

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
