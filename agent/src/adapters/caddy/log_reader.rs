//! Follows the log of failed requests as it grows: each line is read once and becomes a count.
//!
//! ```text
//! errors.json ──── open, read from where the last look ended ───────────────► FailedRequests
//!     │ 1 MiB: Caddy renames it, we still hold it open and read its rest
//!     ▼
//! errors-TIME.json ── not the one we hold? lines between may be lost: a gap ─► said, and judged by
//!                                                                              the rest
//! ```
//!
//! Only the two files exist at any time, and all tenants' errors share them: re-reading them whole
//! each time would see no further back than they reach, seconds under a flood.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::failed_requests::{FailedRequests, Names};

/// The most that is read of one file per look, in bytes: Caddy starts a new one at half of this.
const MAX_READ: u64 = 2 * 1024 * 1024;
/// How many files may be rotated during one look.
const MAX_FILES: usize = 4;

/// One log, and how far it was read.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    open: Option<Open>,
    log: FailedRequests,
    /// When the newest line was written.
    newest: Option<Timestamp>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: Inode,
    offset: u64,
}

type Inode = (u64, u64);

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Taken {
    bytes: u64,
    first: Option<Timestamp>,
}

/// One line, as far as it is parsed.
#[derive(Deserialize)]
struct Line<'a> {
    /// When the answer was complete, in seconds since 1970.
    ts: f64,
    #[serde(borrow)]
    request: Request<'a>,
    /// From the first byte of the request on, in seconds.
    duration: f64,
    status: u16,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    host: Cow<'a, str>,
}

impl Follower {
    /// Nothing read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None, log: FailedRequests::default(), newest: None }
    }

    /// What was read so far.
    pub(super) fn log(&self) -> &FailedRequests {
        &self.log
    }

    /// Reads what was written since the last look, or all there is. Returns how many bytes. A
    /// missing file is not an error: nothing has failed yet.
    pub(super) fn look(&mut self, names: &Names) -> io::Result<u64> {
        let mut bytes = match &self.open {
            None => self.begin(names)?,
            Some(_) => self.rest(names)?.bytes,
        };
        for _ in 0..MAX_FILES {
            let Some(held) = self.open.as_ref().map(|open| open.inode) else { break };
            let Some(next) = open(&self.path)? else { break };
            if next.inode == held {
                break;
            }
            // Caddy has started another file. The rest of ours is read first.
            bytes += self.rest(names)?.bytes;
            let aside = rolled(&self.path)?.map(|path| open(&path)).transpose()?.flatten();
            let in_a_row = aside.as_ref().is_some_and(|aside| aside.inode == held);
            let between = aside.filter(|aside| ![held, next.inode].contains(&aside.inode));
            let (until, born) = (self.newest, born(&self.path));
            let mut first = None;
            for file in between.into_iter().chain([next]) {
                self.open = Some(file);
                let taken = self.rest(names)?;
                bytes += taken.bytes;
                first = first.or(taken.first);
            }
            if let Some(until) = until.filter(|_| !in_a_row) {
                self.log.lost(until, first.unwrap_or(born));
            }
        }
        if let Some(newest) = self.newest {
            self.log.forget(newest);
        }
        Ok(bytes)
    }

    /// Opens the log and reads it, after the file before it.
    fn begin(&mut self, names: &Names) -> io::Result<u64> {
        self.log.known_since = Some(born(&self.path));
        // In this order: what is rotated meanwhile is the file that we hold.
        let Some(own) = open(&self.path)? else { return Ok(0) };
        let before = rolled(&self.path)?.map(|path| open(&path)).transpose()?.flatten();
        let mut bytes = 0;
        let mut first = None;
        let rolled = before.is_some();
        for file in before.filter(|before| before.inode != own.inode).into_iter().chain([own]) {
            self.open = Some(file);
            let taken = self.rest(names)?;
            bytes += taken.bytes;
            first = first.or(taken.first);
        }
        if rolled {
            // The contents of earlier files are lost; without any, everything since the file's
            // birth is here.
            self.log.known_since = first;
        }
        Ok(bytes)
    }

    /// Reads what was added to the open file since the last read.
    fn rest(&mut self, names: &Names) -> io::Result<Taken> {
        let Some(open) = &mut self.open else { return Ok(Taken::default()) };
        let length = open.file.metadata()?.len();
        let last = self.newest;
        // Shorter than before: somebody truncated it.
        let start = if length < open.offset { 0 } else { open.offset };
        let skipped = length.saturating_sub(start) > MAX_READ;
        let start = if skipped { length - MAX_READ } else { start };
        let mut text = Vec::new();
        open.file.seek(SeekFrom::Start(start))?;
        (&open.file).take(MAX_READ).read_to_end(&mut text)?;
        // Half a line at the end is read once it is complete.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        open.offset = start + whole as u64;
        let mut taken = Taken { bytes: whole as u64, first: None };
        for line in text.split(|byte| *byte == b'\n') {
            let Some(ended) = self.take_in(line, names) else { continue };
            taken.first = taken.first.or(Some(ended));
            self.newest = Some(ended);
        }
        if let (true, Some(first)) = (skipped, taken.first) {
            match last {
                Some(last) => self.log.lost(last, first),
                None => self.log.known_since = Some(first),
            }
        }
        Ok(taken)
    }

    /// Counts one line, if it is one. Returns when it was written.
    fn take_in(&mut self, line: &[u8], names: &Names) -> Option<Timestamp> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let ended = Duration::try_from_secs_f64(line.ts).ok()?;
        let ended = Timestamp::UNIX_EPOCH.checked_add(ended).ok()?;
        if line.status >= 500 {
            let duration = Duration::try_from_secs_f64(line.duration).unwrap_or_default();
            let host = name(&line.request.host);
            // Only names of apps on this host are kept; others cost no memory.
            if let (true, Ok(began)) = (names.contains(&host), ended.checked_sub(duration)) {
                self.log.add(host, began);
            }
        }
        Some(ended)
    }
}

fn open(path: &Path) -> io::Result<Option<Open>> {
    match File::open(path) {
        Ok(file) => {
            let stat = file.metadata()?;
            Ok(Some(Open { file, inode: (stat.dev(), stat.ino()), offset: 0 }))
        }
        // Not written yet, or rotated just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Since when a file can have been written to; if the file system does not record that, assume it
/// holds everything.
fn born(file: &Path) -> Timestamp {
    let created = std::fs::metadata(file).and_then(|file| file.created());
    created.ok().and_then(|at| at.try_into().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The newest of the rotated files: `errors-2026-01-31T12-00-00.000.json`.
pub(super) fn rolled(path: &Path) -> io::Result<Option<PathBuf>> {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else { return Ok(None) };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
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

/// A `Host` header as a name: no port, lower case.
fn name(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::model::failed_requests::Counts;

    /// As Caddy 2.6.2 wrote it.
    const LINE: &str = r#"{"level":"error","ts":TIME.5,"logger":"http.log.access.log0","msg":"handled request","request":{"host":"HOST.z.localhost:18080"},"duration":0.5,"status":STATUS}"#;
    const BEGIN: i64 = 1_795_407_815;

    fn line(second: i64, host: &str, status: u16) -> String {
        let line = LINE.replace("TIME", &(BEGIN + second).to_string()).replace("HOST", host);
        line.replace("STATUS", &status.to_string()) + "\n"
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(BEGIN + second).unwrap()
    }

    /// Caddy's part: writes lines, and rotates files as it does.
    struct Log {
        folder: tempfile::TempDir,
        names: Names,
        rolls: u32,
    }

    impl Log {
        fn new() -> Self {
            let names = ["victim", "noisy", "app1"].map(|name| format!("{name}.z.localhost"));
            let names = Arc::new(names.into());
            Self { folder: tempfile::tempdir().unwrap(), names, rolls: 0 }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("errors.json")
        }

        fn write(&self, text: &str) {
            let file = File::options().append(true).create(true).open(self.path());
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn roll(&mut self) {
            if let Some(before) = rolled(&self.path()).unwrap() {
                std::fs::remove_file(before).unwrap();
            }
            self.rolls += 1;
            let aside = format!("errors-2026-11-23T04-00-00.{:03}.json", self.rolls);
            std::fs::rename(self.path(), self.folder.path().join(aside)).unwrap();
            self.write("");
        }

        fn look(&self, follower: &mut Follower) -> u64 {
            follower.look(&self.names).unwrap()
        }
    }

    fn total(follower: &Follower, host: &str) -> u64 {
        follower.log().counts.get(&format!("{host}.z.localhost")).map_or(0, Counts::total)
    }

    #[test]
    fn failed_requests_are_counted_by_host_and_start_time() {
        let log = Log::new();
        let mut follower = Follower::new(log.path());
        assert_eq!(log.look(&mut follower), 0, "no file yet");
        log.write(&(line(0, "App1", 502) + &line(0, "app1", 404) + "torn {\n"));
        log.write(&line(0, "a-name-of-nobody", 500));
        let half = line(0, "app1", 503);
        log.write(&half[..90]);
        assert!(log.look(&mut follower) > 0);
        assert_eq!((total(&follower, "app1"), follower.log().counts.len()), (1, 1));
        log.write(&half[90..]);
        log.look(&mut follower);
        let counts = &follower.log().counts["app1.z.localhost"];
        assert!(counts.within(at(0), at(1)).eq([(BEGIN, 2)]));
        assert_eq!(log.look(&mut follower), 0, "each line is read once");
        assert_eq!(follower.log().gaps, []);
    }

    #[test]
    fn the_previous_log_file_is_read_too_and_extends_the_known_time() {
        let mut log = Log::new();
        log.write(&line(0, "app1", 500).repeat(5));
        log.roll();
        log.write(&line(20, "app1", 500));
        log.roll();
        log.write(&line(40, "app1", 500));
        let mut follower = Follower::new(log.path());
        log.look(&mut follower);
        assert_eq!(total(&follower, "app1"), 2);
        let known = follower.log().known_since.map(|at| at.as_second() - BEGIN);
        assert_eq!(known, Some(20));
        let mut fresh = Follower::new(log.folder.path().join("other.json"));
        std::fs::write(log.folder.path().join("other.json"), line(0, "app1", 500)).unwrap();
        log.look(&mut fresh);
        assert!(fresh.log().known_since.is_some(), "since the file's birth, or the last line");
    }

    #[test]
    fn counts_older_than_auto_rollback_looks_back_are_forgotten() {
        let log = Log::new();
        let mut follower = Follower::new(log.path());
        for second in [0, 1_000] {
            log.write(&line(second, "app1", 500));
            log.look(&mut follower);
            let counts = &follower.log().counts["app1.z.localhost"];
            assert!(counts.within(at(0), at(2_000)).eq([(BEGIN + second, 1)]));
        }
    }

    #[test]
    fn a_truncated_file_is_read_from_the_start() {
        let log = Log::new();
        let mut follower = Follower::new(log.path());
        log.write(&line(0, "app1", 500).repeat(3));
        log.look(&mut follower);
        std::fs::write(log.path(), line(1, "app1", 500)).unwrap();
        log.look(&mut follower);
        assert_eq!(total(&follower, "app1"), 4);
    }

    #[test]
    fn a_line_is_read_only_once_it_is_complete() {
        let log = Log::new();
        let mut follower = Follower::new(log.path());
        log.write(line(0, "app1", 500).trim_end());
        log.look(&mut follower);
        log.write("\n");
        log.look(&mut follower);
        assert_eq!(total(&follower, "app1"), 1);
    }

    #[test]
    fn the_known_time_of_a_large_file_starts_at_the_first_line_read() {
        let log = Log::new();
        let times = usize::try_from(MAX_READ).unwrap() / line(0, "noisy", 500).len();
        log.write(&line(0, "noisy", 500).repeat(times));
        log.write(&line(60, "noisy", 500).repeat(times - 1));
        log.write(&line(100, "noisy", 500));
        let mut follower = Follower::new(log.path());
        log.look(&mut follower);
        let known = follower.log().known_since.map(|at| at.as_second() - BEGIN);
        assert_eq!(known, Some(60));
    }

    /// One tenant causes 1,200 errors a second, of 190 bytes each: a file holds five seconds. A
    /// victim's few failures, one every other second, are all counted, for the last minute and
    /// more.
    #[test]
    fn fm_60_one_tenants_flood_does_not_hide_anothers_failures() {
        let mut log = Log::new();
        let mut follower = Follower::new(log.path());
        let mut written = 0;
        for second in 0..90 {
            let mut text = line(second, "victim", 500);
            text.push_str(&line(second, "noisy", 500).repeat(1_200));
            if written + text.len() > 1024 * 1024 {
                log.roll();
                written = 0;
            }
            written += text.len();
            log.write(&text);
            if second % 2 == 1 {
                log.look(&mut follower);
            }
        }
        assert!(log.rolls > 10, "{} files", log.rolls);
        let victim = &follower.log().counts["victim.z.localhost"];
        assert_eq!((victim.total(), total(&follower, "noisy")), (90, 108_000));
        assert!(victim.within(at(0), at(90)).all(|(_, count)| count == 1));
        assert_eq!(follower.log().gaps, [], "nothing was lost");
    }

    #[test]
    fn fm_60_lost_log_lines_are_recorded_as_a_gap() {
        let mut log = Log::new();
        let mut follower = Follower::new(log.path());
        log.write(&line(0, "victim", 500));
        log.look(&mut follower);
        log.write(&line(1, "victim", 500));
        for second in [10, 20, 30] {
            log.roll();
            log.write(&line(second, "victim", 500));
        }
        log.look(&mut follower);
        // The one of second 10 is gone.
        assert_eq!(total(&follower, "victim"), 4);
        let half = Duration::from_millis(500);
        let lost = follower.log().gaps.clone();
        assert_eq!(lost.len(), 1);
        assert_eq!((lost[0].from, lost[0].until), (at(1) + half, at(20) + half));
        log.roll();
        log.write(&line(31, "victim", 500));
        log.look(&mut follower);
        assert_eq!(
            (total(&follower, "victim"), follower.log().gaps.len()),
            (5, 1),
            "in a row again"
        );
    }

    #[test]
    fn fm_60_an_oversized_log_file_is_read_only_in_part() {
        let log = Log::new();
        let mut follower = Follower::new(log.path());
        log.write(&line(0, "victim", 500));
        log.look(&mut follower);
        let times = 3 * usize::try_from(MAX_READ).unwrap() / line(0, "noisy", 500).len();
        log.write(&line(60, "noisy", 500).repeat(times));
        assert!(log.look(&mut follower) <= MAX_READ);
        let read = usize::try_from(total(&follower, "noisy")).unwrap();
        assert!(read > times / 4 && read < times / 2, "{read} of {times}");
        assert_eq!(follower.log().gaps.len(), 1);
    }

    #[test]
    fn a_reset_log_has_a_gap() {
        let log = Log::new();
        let mut follower = Follower::new(log.path());
        log.write(&line(-1_000_000_000, "victim", 500));
        log.look(&mut follower);
        crate::adapters::caddy::error_log::forget(&log.path()).unwrap();
        log.write(&line(0, "victim", 500));
        log.look(&mut follower);
        assert_eq!(follower.log().gaps.len(), 1, "{:?}", follower.log());
    }
}
