//! One throw-away container host with the whole product on it, real.
//!
//! ```text
//! World ── control.sock ──► supervisor (pid 1) ── keeps ──► podman, registry, caddy, pebble,
//!   │                                                       coordinator, resolver, agent
//!   └── TCP on 127.0.0.1 and sockets in run/ ──► the services themselves
//! ```
//!
//! [`World`] is what demo, tests and benches hold; the services inside survive the program that
//! made it, until [`World::down`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

mod caddy;
mod layout;
mod lease;
mod namespaces;
mod protocol;
mod services;
mod supervisor;

pub use caddy::Caddy;
pub use layout::{HIGHEST, Layout, PortOf, USER, binaries};
pub use lease::Lease;
pub use namespaces::Owner;
pub use protocol::{Request, Response, Service, ServiceStatus};

use crate::poll;

/// How long one part of a world may take to get ready. Generous: machines are busy.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Folders of a world that its user owns.
const FOLDERS: [&str; 9] =
    ["home", "run", "log", "registry", "agent", "coordinator", "acme", "mail", "tmp"];

/// A world that is up.
#[derive(Debug)]
pub struct World {
    layout: Layout,
    owner: Owner,
}

impl World {
    /// Brings world `number` up with Podman and the registry; one that is up is left alone.
    pub async fn up(number: u8) -> anyhow::Result<Self> {
        let world = Self::claim(Layout::new(number)?)?;
        if world.ask(&Request::Status).is_err() {
            world.remove()?;
            let world = Self::claim(Layout::new(number)?)?;
            world.prepare()?;
            world.boot().await?;
        }
        world.link_binaries()?;
        world.keep_podman().await?;
        world.keep_registry().await?;
        Ok(world)
    }

    /// Creates the world's folder and its user, or finds them. The folder represents the claim on
    /// the user: removing the last world also removes the user.
    fn claim(layout: Layout) -> anyhow::Result<Self> {
        let _lock = lease::lock_user()?;
        let dir = layout.dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { layout, owner: Owner::find_or_create()? })
    }

    /// The world `number`, which must be up.
    pub fn attach(number: u8) -> anyhow::Result<Self> {
        let world = Self { layout: Layout::new(number)?, owner: Owner::find_or_create()? };
        world.ask(&Request::Status)?;
        Ok(world)
    }

    /// Ends world `number`, up or not, and removes every trace of it.
    pub fn down(number: u8) -> anyhow::Result<()> {
        let layout = Layout::new(number)?;
        if !layout.dir().exists() {
            return Ok(());
        }
        let world = Self { layout, owner: Owner::find_or_create()? };
        world.remove()?;
        let _lock = lease::lock_user()?;
        if fs::remove_dir(world.layout.base()).is_ok() && nix::unistd::geteuid().is_root() {
            // The last one: the user is removed too. It exists only for worlds.
            let _ = fs::remove_dir(world.owner.runtime_dir());
            namespaces::run("userdel", &[], &[&world.owner.name])?;
        }
        Ok(())
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Where the outside finds what processes inside find at `path`, also on file systems that are
    /// mounted only inside.
    pub fn as_seen_inside(&self, path: &Path) -> PathBuf {
        match (namespaces::init_pid(&self.layout), path.strip_prefix("/")) {
            (Some(pid), Ok(path)) => PathBuf::from(format!("/proc/{pid}/root")).join(path),
            // A plain user's worlds have no mounts of their own.
            _ => path.to_owned(),
        }
    }

    pub fn ask(&self, request: &Request) -> anyhow::Result<Response> {
        protocol::ask(&self.layout.control(), request)
    }

    /// The current state of all services.
    pub fn services(&self) -> anyhow::Result<Vec<ServiceStatus>> {
        match self.ask(&Request::Status)? {
            Response::Services(services) => Ok(services),
            other => bail!("the supervisor answered {other:?}"),
        }
    }

    /// The current state of one service.
    pub fn service(&self, name: &str) -> anyhow::Result<ServiceStatus> {
        let found = self.services()?.into_iter().find(|service| service.name == name);
        found.with_context(|| format!("there is no service {name}"))
    }

    /// Sends a service a signal; one that dies of it is restarted.
    pub fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        self.ask(&Request::Signal { name: name.to_owned(), signal: signal as i32 }).map(drop)
    }

    /// SIGKILL to both processes of Podman's API service: rootless, the one that the supervisor
    /// started only waits for a second one, which serves in a user namespace.
    pub fn kill_podman(&self) -> anyhow::Result<()> {
        let address = self.podman_address();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Gone meanwhile, or not ours to inspect.
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if command.split(|byte| *byte == 0).any(|argument| argument == address.as_bytes()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        Ok(())
    }

    /// Ends a service permanently and waits until its process is gone.
    pub async fn stop(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        let pid = self.service(name)?.pid;
        self.ask(&Request::Stop { name: name.to_owned(), signal: signal as i32 })?;
        if name == "podman" {
            // The serving process ends late, and removes a successor's socket.
            self.kill_podman()?;
        }
        let Some(pid) = pid else { return Ok(()) };
        let gone = format!("/proc/{pid}");
        poll::until(&format!("the end of {name}"), PATIENCE, async || {
            let output = self.exec(["test", "-e", &gone])?;
            ensure!(!output.status.success(), "{gone} exists");
            Ok(())
        })
        .await
    }

    /// Runs a program inside, as the world's user, to completion.
    pub fn exec<I: AsRef<OsStr>>(
        &self,
        argv: impl IntoIterator<Item = I>,
    ) -> anyhow::Result<Output> {
        let mut command = self.command();
        command.args(argv).stdin(Stdio::null());
        command.output().context("cannot run a program in the world")
    }

    /// A command without program and arguments yet.
    pub fn command(&self) -> Command {
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new(self.binary("buddo-world"));
            command.args(["inside", &self.layout.number().to_string(), "--"]);
            command
        } else {
            let mut command = Command::new("env");
            command.arg("--");
            command
        };
        command.env_clear().envs(self.env()).current_dir("/");
        command
    }

    /// The environment of everything inside.
    pub fn env(&self) -> BTreeMap<String, String> {
        let home = self.layout.path("home");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        BTreeMap::from([
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("USER".into(), self.owner.name.clone()),
            ("LOGNAME".into(), self.owner.name.clone()),
            ("HOME".into(), text(&home)),
            ("TMPDIR".into(), text(&self.layout.path("tmp"))),
            ("XDG_RUNTIME_DIR".into(), text(&self.runtime_dir())),
            ("XDG_CONFIG_HOME".into(), text(&home.join(".config"))),
            ("XDG_DATA_HOME".into(), text(&home.join(".local/share"))),
            ("XDG_STATE_HOME".into(), text(&home.join(".local/state"))),
        ])
    }

    /// For root's worlds a private tmpfs; a plain user's worlds share that user's.
    fn runtime_dir(&self) -> PathBuf {
        if nix::unistd::geteuid().is_root() {
            self.owner.runtime_dir()
        } else {
            self.owner.runtime_dir().join(self.layout.cgroup())
        }
    }

    /// A binary of the workspace, where the world's user can run it.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.layout.path("bin").join(name)
    }

    fn prepare(&self) -> anyhow::Result<()> {
        let dir = self.layout.dir();
        for folder in FOLDERS {
            let folder = dir.join(folder);
            fs::create_dir_all(&folder)?;
            self.owner.own(&folder)?;
        }
        fs::create_dir_all(dir.join("bin"))?;
        self.write_container_configuration()?;
        self.link_binaries()
    }

    /// The world's user may not be able to enter the build's folder, so the files are linked or
    /// copied to where it can. A rebuilt one replaces the older at the next `up`.
    fn link_binaries(&self) -> anyhow::Result<()> {
        let from = binaries()?;
        for name in ["buddo-world", "buddo-web", "buddo-agent", "buddo-coordinator", "buddo"] {
            let (source, target) = (from.join(name), self.binary(name));
            if source == target || !source.exists() {
                continue;
            }
            let fresh = target.with_extension("new");
            let _ = fs::remove_file(&fresh);
            if fs::hard_link(&source, &fresh).is_err() {
                fs::copy(&source, &fresh)
                    .with_context(|| format!("cannot copy {}", source.display()))?;
            }
            fs::rename(&fresh, &target)?;
            // Renaming one link of a file onto another of its links does nothing at all.
            let _ = fs::remove_file(&fresh);
        }
        Ok(())
    }

    async fn boot(&self) -> anyhow::Result<()> {
        let log = fs::File::create(self.layout.path("log/world.log"))?;
        let mut command = self.supervisor_command();
        command.env_clear().envs(self.env()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("cannot start the world")?;
        let ended = poll::until("the supervisor", PATIENCE, async || match child.try_wait()? {
            Some(status) => Ok(Some(status)),
            None => self.ask(&Request::Status).map(|_| None),
        });
        if let Some(status) = ended.await? {
            let said = fs::read_to_string(self.layout.path("log/world.log")).unwrap_or_default();
            bail!("the world ended at once ({status}): {}", said.trim());
        }
        Ok(())
    }

    fn supervisor_command(&self) -> Command {
        let number = self.layout.number().to_string();
        let program = self.binary("buddo-world");
        if nix::unistd::geteuid().is_root() {
            let mut command = Command::new(program);
            command.args(["enter", &number]);
            command
        } else {
            // A scope of its own with delegated controllers, as a user unit would have.
            let mut command = Command::new("systemd-run");
            command.args(["--user", "--scope", "--quiet", "--property=Delegate=yes", "--"]);
            command.arg(program).args(["supervise", &number]);
            command
        }
    }

    /// Ends what runs and removes what is left, whatever state an interrupted run left.
    fn remove(&self) -> anyhow::Result<()> {
        if let Some(pid) = namespaces::init_pid(&self.layout) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).context("cannot end the world")?;
            wait(|| Ok(namespaces::init_pid(&self.layout).is_none()), "the end of the world")?;
        } else if self.ask(&Request::Shutdown).is_ok() {
            let control = self.layout.control();
            wait(|| Ok(!control.exists()), "the end of the world")?;
        }
        let dir = self.layout.dir();
        if nix::unistd::geteuid().is_root() {
            wait(|| namespaces::remove_cgroup(&self.layout), "the end of the world's cgroups")?;
        } else if dir.exists() {
            self.remove_as_user()?;
        }
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Images belong to subordinate users, for which only Podman's user namespace can act.
    fn remove_as_user(&self) -> anyhow::Result<()> {
        let storage = self.layout.path("home/.local");
        for argv in [
            &["podman", "rm", "--all", "--force", "--time", "0"][..],
            &["podman", "unshare", "rm", "-rf", &storage.to_string_lossy()][..],
        ] {
            self.exec(argv)?;
        }
        let _ = fs::remove_dir_all(self.runtime_dir());
        Ok(())
    }
}

/// For the hidden commands that make a world; see [`namespaces`].
pub mod stages {
    use super::{Layout, Owner, World, namespaces};

    /// Outside: own session and cgroup, then `unshare`.
    pub fn enter(number: u8) -> anyhow::Result<()> {
        namespaces::enter(&Layout::new(number)?)
    }

    /// Inside: mounts, then the supervisor.
    pub fn init(number: u8) -> anyhow::Result<()> {
        let world = World { layout: Layout::new(number)?, owner: Owner::find_or_create()? };
        namespaces::init(&world.layout, &world.owner)?;
        world.supervisor().run()
    }

    /// Into a running world from outside.
    pub fn inside(number: u8, argv: &[String]) -> anyhow::Result<()> {
        namespaces::inside(&Layout::new(number)?, &Owner::find_or_create()?, argv)
    }

    /// Without namespaces: the supervisor in its delegated scope.
    pub fn supervise(number: u8) -> anyhow::Result<()> {
        let world = World { layout: Layout::new(number)?, owner: Owner::find_or_create()? };
        nix::sys::prctl::set_child_subreaper(true)?;
        std::fs::create_dir_all(world.runtime_dir())?;
        namespaces::delegate(&namespaces::own_cgroup()?, &world.owner)?;
        let control = world.layout.control();
        world.supervisor().run()?;
        Ok(std::fs::remove_file(control)?)
    }
}

/// Waits without a runtime: for the end of processes, which nothing reports.
fn wait(mut done: impl FnMut() -> anyhow::Result<bool>, what: &str) -> anyhow::Result<()> {
    let end = std::time::Instant::now() + PATIENCE;
    while !done()? {
        ensure!(std::time::Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}
