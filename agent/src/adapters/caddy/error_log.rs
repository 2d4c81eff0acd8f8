//! Caddy's log of failed requests: what Caddy is told to write. [`follow`](super::follow) reads it.
//!
//! ```text
//! Caddy ── status ≥ 500, a line each ──► errors.json ─ 1 MiB ─► errors-TIME.json (one is kept)
//!                                             └───────┬──────────────┘
//!                              when, how long, which host: nothing else
//! ```
//!
//! No app's traffic depends on it: if it cannot be written, routes go without it. Caddy 2.11 (2.6.2
//! does not) rejects a configuration, and does not start, if it names a log that cannot be opened.
//!
//! Healthy requests are not logged, so they cost nothing. Neither visitors' addresses nor paths,
//! queries or headers are kept: they are none of the host's business.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::adapters::caddy::log_reader::rolled;
use crate::ports::RouteFiles;

/// The `log` block of a site, indented by one. Caddy 2.6.2 logs 4xx at this level, too.
pub(super) fn directive(file: &Path) -> String {
    let file = super::render::path(file);
    // Both versions' fields; an unknown one is not an error.
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

/// Whether this user, who is also Caddy's, can write the log; creates it and its folder if missing.
pub(super) fn open(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(file).map(drop)
}

/// Route files without their log to `file`: what loaded with it also loads without it.
pub(super) fn without(files: &RouteFiles, file: &Path) -> RouteFiles {
    let log = directive(file);
    files.iter().map(|(name, text)| (name.clone(), text.replace(&log, ""))).collect()
}

/// Starts the log over: it has a gap, and nothing in it shows that.
pub(super) fn forget(file: &Path) -> std::io::Result<()> {
    for file in rolled(file)?.iter().map(PathBuf::as_path).chain([file]) {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    open(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_the_log_empties_it_and_removes_rolled_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/errors.json");
        open(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        std::fs::write(path.with_file_name("errors-2026-11-23T04-00-00.000.json"), "{}").unwrap();
        forget(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(rolled(&path).unwrap(), None);
    }
}
