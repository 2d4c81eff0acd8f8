//! Route files in force: loaded first, written afterwards.
//!
//! ```text
//! wanted ─► staging folder ─► POST /load ─ ok ──► rename each into the routes folder
//!                                        └ no ──► add the changed files in halves, so that
//!                                                 the bad ones alone stay out
//! ```
//!
//! Everything in the routes folder has been loaded, so Caddy can always restart from it. The
//! staging folder is outside the folder that the main Caddyfile imports.
//!
//! If the log of failed requests cannot be opened, the routes go without it (see [`error_log`](super::error_log)).
//!
//! The routes folder belongs to the agent alone. A file that somebody else put there would take
//! effect at Caddy's next start, or keep it from starting and take every app down: it is renamed to
//! a name that is not imported, and reported until it is removed.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use buddo_runtime::durable;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::adapters::caddy::admin::{Admin, AdminError};
use crate::adapters::caddy::error_log;
use crate::adapters::caddy::log_reader::Follower;
use crate::adapters::caddy::render::{is_route_file, main_file};
use crate::adapters::caddy::warm::Warmer;
use crate::config::Config;
use crate::model::failed_requests::Names;
use crate::ports::{Proxy, ProxyError, Reading, RefusedRoute, RouteFiles};
use crate::process::metrics::Metrics;

/// Which files the main Caddyfile imports.
pub(super) const PATTERN: &str = "*.caddy";

/// Minimum time between two reloads, each of which closes every proxied WebSocket.
const BETWEEN_RELOADS: Duration = Duration::from_millis(500);

/// Interval of the check whether somebody changed the folder or restarted Caddy.
const GLANCES: Duration = Duration::from_secs(5);

/// Suffix of a file that was set aside: not imported.
const ASIDE: &str = "disabled";

/// Implements [`Proxy`] for a Caddy on this host.
#[derive(Debug)]
pub struct Routes {
    admin: Admin,
    warmer: Warmer,
    files: Arc<Files>,
    metrics: Metrics,
    /// How far it was read, while somebody wants to know.
    follower: Arc<std::sync::Mutex<Option<Follower>>>,
    /// Why nothing is written to it.
    unlogged: std::sync::Mutex<Option<String>>,
    /// One change at a time.
    state: Mutex<State>,
}

/// Writes the main Caddyfile to its place, with the folders that Caddy needs. On any error the
/// previous file stays.
pub fn write_main_file(config: &Config) -> std::io::Result<()> {
    let caddy = &config.caddy;
    let folders = [caddy.caddyfile.parent(), Some(&*caddy.routes_dir), Some(&*caddy.storage)];
    for folder in folders.into_iter().flatten() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    if error_log::open(&caddy.error_log).is_err() {
        // Caddy is about to start from the folder.
        write_without_log(&caddy.routes_dir, &staging(&caddy.routes_dir), &caddy.error_log)
            .map_err(std::io::Error::other)?;
    }
    durable::replace(&caddy.caddyfile, main_file(config).as_bytes(), 0o600)
}

/// Where files are tried before they go into the routes folder.
fn staging(folder: &Path) -> PathBuf {
    let mut staging = folder.as_os_str().to_owned();
    staging.push(".staging");
    staging.into()
}

/// Lets Caddy start from the folder even though `log` cannot be opened.
fn write_without_log(folder: &Path, staging: &Path, log: &Path) -> Result<(), ProxyError> {
    let written = read_folder(folder)?;
    let bare = error_log::without(&written, log);
    if bare == written {
        return Ok(());
    }
    std::fs::create_dir_all(staging)
        .map_err(|error| file_error("write the staging folder", staging, error))?;
    write_folder(folder, staging, &bare)
}

/// All paths. Its work waits for the disk, so it must not run on an async thread.
#[derive(Debug)]
struct Files {
    main: Main,
    folder: PathBuf,
    staging: PathBuf,
    error_log: PathBuf,
    admin: PathBuf,
}

/// The main Caddyfile: the administrator's, or ours if that does not exist.
#[derive(Debug)]
struct Main {
    path: PathBuf,
    default: String,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Last>,
    /// When Caddy last took a new configuration.
    reloaded: Option<Instant>,
}

/// What was done last.
#[derive(Debug)]
struct Last {
    wanted: RouteFiles,
    in_force: RouteFiles,
    refused: Vec<RefusedRoute>,
    /// Caddy's message, if it only took the routes without their log.
    log_refused: Option<String>,
    glance: Glance,
}

/// Identity of two inodes: of the routes folder, and of the admin socket, which Caddy recreates at
/// each start. `None` if missing.
#[derive(Debug, PartialEq, Eq)]
struct Glance([Option<(u64, i64, i64)>; 2]);

impl Routes {
    /// Works with the files and sockets that `config` names.
    pub fn new(config: &Config) -> Result<Self, ProxyError> {
        let caddy = &config.caddy;
        let warmer = Warmer::new(caddy.edge).map_err(|error| ProxyError {
            message: "cannot prepare TLS handshakes".to_owned(),
            source: Some(Box::new(error)),
        })?;
        Ok(Self {
            admin: Admin::new(caddy.admin.clone()),
            warmer,
            files: Arc::new(Files {
                main: Main { path: caddy.caddyfile.clone(), default: main_file(config) },
                folder: caddy.routes_dir.clone(),
                staging: staging(&caddy.routes_dir),
                error_log: caddy.error_log.clone(),
                admin: caddy.admin.clone(),
            }),
            metrics: Metrics::default(),
            follower: Arc::default(),
            unlogged: std::sync::Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// The same routes, whose reloads are counted.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Works with the files.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, ProxyError> + Send + 'static,
    ) -> Result<T, ProxyError> {
        let files = Arc::clone(&self.files);
        let done = durable::off_thread(move || work(&files)).await;
        done.unwrap_or_else(|error| Err(file_error("work in", &self.files.folder, error)))
    }

    async fn glance(&self) -> Result<Glance, ProxyError> {
        self.on_disk(|files| Ok(files.glance())).await
    }

    /// `routes` as they can be in force here: without their log if it cannot be opened, and why.
    async fn loggable(
        &self,
        routes: &RouteFiles,
    ) -> Result<(RouteFiles, Option<String>), ProxyError> {
        let gap = self.unlogged().is_some();
        let Some(error) = self.on_disk(move |files| files.open_log(gap)).await? else {
            return Ok((routes.clone(), None));
        };
        *self.unlogged() = Some(error.clone());
        Ok((error_log::without(routes, &self.files.error_log), Some(error)))
    }

    fn unlogged(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.unlogged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle(&self, wanted: &RouteFiles) -> Result<Settled, ProxyError> {
        let written = self.on_disk(|files| read_folder(&files.folder)).await?;
        let mut settled = Settled::default();
        let bare = error_log::without(wanted, &self.files.error_log);
        match self.load(wanted).await? {
            None => settled.in_force.clone_from(wanted),
            Some(message) if bare != *wanted && self.load(&bare).await?.is_none() => {
                settled.in_force = bare;
                settled.log_refused = Some(message);
            }
            Some(message) => {
                // Without the removed and the changed files: this loads, unless Caddy or the main
                // file is the problem.
                settled.in_force = written.clone();
                settled.in_force.retain(|file, _| wanted.contains_key(file));
                if let Some(base) = self.load(&settled.in_force).await? {
                    return Err(self.beyond_routes(&base));
                }
                let changed: Vec<_> = wanted
                    .iter()
                    .filter(|(file, text)| settled.in_force.get(*file) != Some(*text))
                    .collect();
                self.add(&mut settled, &changed, message).await?;
            }
        }
        let in_force = settled.in_force.clone();
        self.on_disk(move |files| write_folder(&files.folder, &files.staging, &in_force)).await?;
        settled.changes = written != settled.in_force || !settled.refused.is_empty();
        Ok(settled)
    }

    /// Adds `changed`, which did not load as a whole for the reason `message`, by halves. A
    /// rejected file keeps its last good text in force.
    async fn add(
        &self,
        settled: &mut Settled,
        changed: &[(&String, &String)],
        message: String,
    ) -> Result<(), ProxyError> {
        // Depth-first, left to right; each entry is known not to load together with what is in
        // force.
        let mut pending = vec![(changed, message)];
        while let Some((files, message)) = pending.pop() {
            if let [(file, _)] = files {
                settled.refused.push(RefusedRoute { file: (*file).clone(), message });
                continue;
            }
            let (left, right) = files.split_at(files.len() / 2);
            for half in [left, right] {
                let mut trial = settled.in_force.clone();
                trial.extend(half.iter().map(|(file, text)| ((*file).clone(), (*text).clone())));
                match self.load(&trial).await? {
                    None => settled.in_force = trial,
                    Some(message) => pending.push((half, message)),
                }
            }
        }
        Ok(())
    }

    /// Loads the main file with exactly `files`; Caddy's message if it rejects them.
    async fn load(&self, files: &RouteFiles) -> Result<Option<String>, ProxyError> {
        let routes = files.clone();
        let staged = self.on_disk(move |files| {
            stage(&files.staging, &routes)?;
            files.main.importing(&files.folder, &files.staging)
        });
        let caddyfile = staged.await?;
        match self.admin.load(&caddyfile).await {
            Ok(()) => Ok(None),
            Err(AdminError::Refused(message)) => Ok(Some(message)),
            Err(error) => Err(ProxyError {
                message: "the routes could not be given to Caddy".to_owned(),
                source: Some(Box::new(error)),
            }),
        }
    }

    fn beyond_routes(&self, message: &str) -> ProxyError {
        ProxyError {
            message: format!(
                "Caddy refuses its configuration even without new routes; look at {}: {message}",
                self.files.main.path.display()
            ),
            source: None,
        }
    }
}

/// The result of one [`Routes::settle`].
#[derive(Debug, Default)]
struct Settled {
    in_force: RouteFiles,
    refused: Vec<RefusedRoute>,
    log_refused: Option<String>,
    /// Whether Caddy had to take anything new.
    changes: bool,
}

impl Proxy for Routes {
    async fn apply(&self, routes: &RouteFiles) -> Result<Vec<RefusedRoute>, ProxyError> {
        let mut state = self.state.lock().await;
        let foreign = self.on_disk(|files| set_aside(&files.folder)).await?;
        // Before anything is done, so that changes made meanwhile show up.
        let glance = self.glance().await?;
        let (wanted, unopened) = self.loggable(routes).await?;
        if let Some(last) = &mut state.last
            && last.wanted == wanted
            && last.log_refused.is_none()
            && last.in_force == self.on_disk(|files| read_folder(&files.folder)).await?
            && self.load(&last.in_force).await?.is_none()
        {
            // Nothing new: Caddy was asked, and reloaded only if it ran something else, as after a
            // restart with another main file.
            last.glance = glance;
            return Ok([last.refused.as_slice(), &foreign].concat());
        }
        if let Some(reloaded) = state.reloaded {
            tokio::time::sleep_until(reloaded + BETWEEN_RELOADS).await;
        }
        // Until it is known to have worked, nothing is known.
        state.last = None;
        let settled = self.settle(&wanted).await?;
        if settled.changes {
            state.reloaded = Some(Instant::now());
            self.metrics.reloaded(settled.refused.len());
        }
        for refused in &settled.refused {
            tracing::warn!(file = refused.file, reason = refused.message, "a route was refused");
        }
        let all = [settled.refused.as_slice(), &foreign].concat();
        *self.unlogged() = unopened.or_else(|| settled.log_refused.clone());
        state.last = Some(Last {
            wanted,
            in_force: settled.in_force,
            refused: settled.refused,
            log_refused: settled.log_refused,
            // Writing changed the folder.
            glance: self.glance().await?,
        });
        Ok(all)
    }

    async fn disturbed(&self) {
        loop {
            tokio::time::sleep(GLANCES).await;
            let state = self.state.lock().await;
            let Ok(glance) = self.glance().await else { return };
            if state.last.as_ref().is_none_or(|last| last.glance != glance) {
                return;
            }
        }
    }

    async fn warm(&self, host: &str) -> Result<(), ProxyError> {
        self.warmer.warm(host).await
    }

    fn warnings(&self) -> Vec<String> {
        let warning = |why: &String| {
            format!(
                "Caddy cannot log failed requests, so automatic rollbacks do not see \
                 them (visitors are served): {why}; let Caddy's user write {}, or name another \
                 file in `caddy.error_log`",
                self.files.error_log.display()
            )
        };
        self.unlogged().iter().map(warning).collect()
    }

    async fn failed_requests(&self, names: &Names) -> std::io::Result<Reading> {
        if self.unlogged().is_some() {
            self.forget_failed_requests();
            return Ok(Reading::default());
        }
        let (path, names) = (self.files.error_log.clone(), Arc::clone(names));
        let follower = Arc::clone(&self.follower);
        let looking = tokio::task::spawn_blocking(move || {
            let mut follower = follower.lock().unwrap_or_else(PoisonError::into_inner);
            let follower = follower.get_or_insert_with(|| Follower::new(path));
            let bytes = follower.look(&names)?;
            Ok(Reading { requests: follower.log().clone(), bytes })
        });
        looking.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    fn forget_failed_requests(&self) {
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Files {
    fn glance(&self) -> Glance {
        let stamp = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec()))
        };
        Glance([stamp(&self.folder), stamp(&self.admin)])
    }

    /// Opens the log, from its start if it has a `gap`; returns why it cannot be opened. Such a log
    /// is removed from the folder's files at once, since Caddy may be down because of it.
    fn open_log(&self, gap: bool) -> Result<Option<String>, ProxyError> {
        let log = &self.error_log;
        let opened = if gap { error_log::forget(log) } else { error_log::open(log) };
        let Err(error) = opened else { return Ok(None) };
        write_without_log(&self.folder, &self.staging, log)?;
        Ok(Some(error.to_string()))
    }
}

impl Main {
    /// The main file with its import of `folder` pointed at `staging`.
    fn importing(&self, folder: &Path, staging: &Path) -> Result<String, ProxyError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.default.clone(),
            Err(error) => {
                return Err(file_error("read the main Caddyfile", &self.path, error));
            }
        };
        let (from, to) = (folder.join(PATTERN), staging.join(PATTERN));
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        let mut imports = 0;
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                let imported = line.trim().strip_prefix("import ");
                let token = imported.map(|rest| rest.trim().trim_matches(['`', '"']));
                if token == Some(&*from) {
                    imports += 1;
                    format!("import `{to}`")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        if imports == 1 {
            return Ok(lines.join("\n") + "\n");
        }
        Err(ProxyError {
            message: format!(
                "{} must hold the line `import {from}` once; `buddo-agent caddyfile` prints a good one",
                self.path.display()
            ),
            source: None,
        })
    }
}

fn file_error(operation: &str, path: &Path, error: std::io::Error) -> ProxyError {
    ProxyError {
        message: format!("cannot {operation} {}", path.display()),
        source: Some(Box::new(error)),
    }
}

/// The `*.caddy` files of a folder; none if the folder does not exist.
fn read_folder(folder: &Path) -> Result<RouteFiles, ProxyError> {
    let failed = |error| file_error("read the routes folder", folder, error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if let Ok(name) = entry.file_name().into_string()
            && path.extension().is_some_and(|extension| extension == "caddy")
        {
            let text = std::fs::read(path).map_err(failed)?;
            files.insert(name, String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(files)
}

/// Sets foreign files aside, and names all that were set aside.
fn set_aside(folder: &Path) -> Result<Vec<RefusedRoute>, ProxyError> {
    let failed = |error| file_error("set a file aside in the routes folder", folder, error);
    let foreign: Vec<String> =
        read_folder(folder)?.into_keys().filter(|file| !is_route_file(file)).collect();
    for file in &foreign {
        let aside = folder.join(format!("{file}.{ASIDE}"));
        std::fs::rename(folder.join(file), aside).map_err(failed)?;
        tracing::warn!(file, "setting aside a route file that is not the agent's");
    }
    if !foreign.is_empty() {
        durable::flush_folder(&folder.join("x")).map_err(failed)?;
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut aside = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let Some(file) = name.to_str().and_then(|name| name.strip_suffix(ASIDE)) else { continue };
        let Some(file) = file.strip_suffix('.') else { continue };
        aside.push(RefusedRoute {
            file: file.to_owned(),
            message: format!(
                "the agent did not write it and set it aside as {file}.{ASIDE} in {}; import \
                 your own sites from another folder, and remove that file",
                folder.display()
            ),
        });
    }
    Ok(aside)
}

/// Makes the staging folder hold exactly `files`.
fn stage(staging: &Path, files: &RouteFiles) -> Result<(), ProxyError> {
    let failed = |error| file_error("write the staging folder", staging, error);
    std::fs::create_dir_all(staging).map_err(failed)?;
    let staged = read_folder(staging)?;
    for gone in staged.keys().filter(|file| !files.contains_key(*file)) {
        std::fs::remove_file(staging.join(gone)).map_err(failed)?;
    }
    for (file, text) in files.iter().filter(|(file, text)| staged.get(*file) != Some(*text)) {
        std::fs::write(staging.join(file), text).map_err(failed)?;
    }
    Ok(())
}

/// Makes the routes folder hold exactly `files`, each replaced atomically and synced to disk.
fn write_folder(folder: &Path, staging: &Path, files: &RouteFiles) -> Result<(), ProxyError> {
    let failed = |error| file_error("write the routes folder", folder, error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let written = read_folder(folder)?;
    for (file, text) in files.iter().filter(|(file, text)| written.get(*file) != Some(*text)) {
        // `import *.caddy` would match a temporary file with that suffix in the folder itself.
        let way = staging.join(format!("{file}.new"));
        durable::replace_by_way_of(&way, &folder.join(file), text.as_bytes(), 0o600)
            .map_err(failed)?;
    }
    let mut gone = written.keys().filter(|file| !files.contains_key(*file)).peekable();
    if gone.peek().is_some() {
        for file in gone {
            std::fs::remove_file(folder.join(file)).map_err(failed)?;
        }
        durable::flush_folder(&folder.join("x")).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
