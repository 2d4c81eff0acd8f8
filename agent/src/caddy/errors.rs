//! Caddy's log of failed requests: what it is told to write, and reading that again.
//!
//! ```text
//! Caddy ── status ≥ 500, a line each ──► errors.json ─ 1 MiB ─► errors-TIME.json (one is kept)
//!                                             └───────┬──────────────┘
//!                              when, how long, which host: nothing else
//! ```
//!
//! No app's traffic depends on it: where it cannot be written, routes go without it. Caddy 2.11
//! (2.6.2 does not) refuses a configuration, and does not start, if it names a log that does not
//! open.
//!
//! Healthy requests are not written down, so they cost nothing. Neither addresses of visitors nor
//! paths, queries or headers are kept: whose they are is no concern of the host's.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::ports::{FailedRequests, RouteFiles};

/// The most that is read of one file, in bytes: Caddy starts a new one at half of this.
const MAX_FILE: u64 = 2 * 1024 * 1024;

/// The `log` block of a site, indented by one. Caddy 2.6.2 writes 4xx at this level, too.
pub(super) fn directive(file: &Path) -> String {
    let file = super::render::path(file);
    // Both versions' fields; one that a version does not have is no error.
    let fields = [
        "user_id",
        "size",
        "bytes_read",
        "resp_headers",
        "request>headers",
        "request>uri",
        "request>tls",
        "request>remote_ip",
        "request>remote_port",
        "request>client_ip",
        "request>proto",
        "request>method",
    ];
    let deleted = fields.map(|field| format!("\t\t\t\t{field} delete\n")).concat();
    format!(
        "\tlog {{\n\
         \t\toutput file {file} {{\n\
         \t\t\troll_size 1MiB\n\
         \t\t\troll_uncompressed\n\
         \t\t\troll_keep 1\n\
         \t\t}}\n\
         \t\tformat filter {{\n\
         \t\t\twrap json\n\
         \t\t\tfields {{\n{deleted}\t\t\t}}\n\
         \t\t}}\n\
         \t\tlevel ERROR\n\
         \t}}\n"
    )
}

/// Whether the log can be written by this user, who is Caddy's, too; makes it and its folder where
/// there is none.
pub(super) fn open(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(file).map(drop)
}

/// Route files without their log to `file`: what loaded with it loads without it, too.
pub(super) fn without(files: &RouteFiles, file: &Path) -> RouteFiles {
    let log = directive(file);
    files.iter().map(|(name, text)| (name.clone(), text.replace(&log, ""))).collect()
}

/// Begins the log anew: it has a gap, which nothing in it tells.
pub(super) fn forget(file: &Path) -> std::io::Result<()> {
    for file in rolled(file)?.iter().map(PathBuf::as_path).chain([file]) {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    open(file)
}

/// Since when a file can have been written to; where the file system does not know, all there ever
/// was is in it.
fn born(file: &Path) -> Timestamp {
    let created = std::fs::metadata(file).and_then(|file| file.created());
    created.ok().and_then(|at| at.try_into().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// One line, as far as it is read.
#[derive(Debug, Deserialize)]
struct Line {
    /// When the answer was complete, in seconds since 1970.
    ts: f64,
    request: Request,
    /// From the first byte of the request on, in seconds.
    duration: f64,
    status: u16,
}

#[derive(Debug, Deserialize)]
struct Request {
    host: String,
}

/// Reads the log at `path` and the file before it. No file is no error: nothing failed yet.
pub(super) fn read(path: &Path) -> std::io::Result<FailedRequests> {
    let rolled = rolled(path)?;
    let mut text = Vec::new();
    for file in rolled.iter().map(PathBuf::as_path).chain([path]) {
        tail(file, &mut text)?;
        // A file may end within a line.
        text.push(b'\n');
    }
    let mut requests = FailedRequests::default();
    let mut first: Option<Timestamp> = None;
    for line in text.split(|byte| *byte == b'\n') {
        // Half a line at a file's beginning or end is none.
        let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
        let Some(ended) = since_1970(line.ts) else { continue };
        first = Some(first.map_or(ended, |first| first.min(ended)));
        let duration = Duration::try_from_secs_f64(line.duration).unwrap_or_default();
        if line.status >= 500
            && let Ok(began) = ended.checked_sub(duration)
        {
            requests.began.entry(name(&line.request.host)).or_default().push(began);
        }
    }
    // What an earlier file held is gone; without one, all since the file's birth is here.
    requests.known_since = if rolled.is_some() { first } else { Some(born(path)) };
    Ok(requests)
}

/// The newest of the files that Caddy set aside: `errors-2026-01-31T12-00-00.000.json`.
fn rolled(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else { return Ok(None) };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let prefix = format!("{}-", stem.to_string_lossy());
    let mut newest = None;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        // The time in the name sorts as text.
        if name.is_some_and(|name| name.starts_with(&prefix)) {
            newest = newest.max(Some(path));
        }
    }
    Ok(newest)
}

/// Adds the end of a file to `text`.
fn tail(path: &Path, text: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Not written yet, or set aside just now.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_FILE)))?;
    file.take(MAX_FILE).read_to_end(text).map(drop)
}

fn since_1970(seconds: f64) -> Option<Timestamp> {
    Timestamp::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?).ok()
}

/// A `Host` header as a name: no port, lower case.
fn name(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Caddy 2.6.2 wrote it.
    const LINE: &str = r#"{"level":"error","ts":1795407815.5,"logger":"http.log.access.log0","msg":"handled request","request":{"host":"App1.z.localhost:18080"},"duration":0.5,"status":STATUS}"#;

    fn line(status: u16) -> String {
        LINE.replace("STATUS", &status.to_string()) + "\n"
    }

    #[test]
    fn failed_requests_are_read_by_host_and_by_when_they_began() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/errors.json");
        assert!(read(&path).unwrap().began.is_empty(), "no file yet");
        std::fs::create_dir(folder.path().join("log")).unwrap();
        let text = line(502) + &line(404) + "torn {\n" + &line(500) + &line(503)[..90];
        std::fs::write(&path, text).unwrap();
        let requests = read(&path).unwrap();
        let began = Timestamp::from_second(1_795_407_815).unwrap();
        assert_eq!(requests.began, [("app1.z.localhost".to_owned(), vec![began; 2])].into());
        let known = Timestamp::try_from(path.metadata().unwrap().created().unwrap()).unwrap();
        assert_eq!(requests.known_since, Some(known), "before there was a file, nothing is known");
    }

    #[test]
    fn a_log_that_had_a_gap_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/errors.json");
        open(&path).unwrap();
        std::fs::write(&path, line(500)).unwrap();
        std::fs::write(path.with_file_name("errors-2026-11-23T04-00-00.000.json"), line(500))
            .unwrap();
        forget(&path).unwrap();
        let read = read(&path).unwrap();
        assert!(
            read.began.is_empty() && read.known_since > Some(Timestamp::UNIX_EPOCH),
            "{read:?}"
        );
    }

    #[test]
    fn the_file_before_is_read_too_and_says_how_far_back_all_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("errors.json");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("errors-2026-11-23T04-00-00.000.json", &line(500).repeat(5)).unwrap();
        let older = line(500).replace("1795407815", "1795407000");
        write("errors-2026-11-23T05-00-00.000.json", &older).unwrap();
        write("errors.json", &line(500)).unwrap();
        let requests = read(&path).unwrap();
        assert_eq!(requests.began["app1.z.localhost"].len(), 2);
        let known = requests.known_since.map(Timestamp::as_second);
        assert_eq!(known, Some(1_795_407_000));
    }

    #[test]
    fn a_log_that_was_flooded_is_read_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("errors.json");
        let times = 3 * usize::try_from(MAX_FILE).unwrap() / line(500).len();
        std::fs::write(&path, line(500).repeat(times)).unwrap();
        let read = read(&path).unwrap().began["app1.z.localhost"].len();
        assert!(read > times / 4 && read < times / 2, "{read} of {times}");
    }
}
