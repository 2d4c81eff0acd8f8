//! How a world becomes a separate machine: private mount, pid and cgroup namespaces around the
//! supervisor, an unprivileged user inside.
//!
//! ```text
//! buddo-world up ─ spawns ─► enter: own session, own cgroup ─ exec ─► unshare(1)
//!     ─ forks ─► init: mounts, delegation ─► supervisor (pid 1 of the world)
//! ```
//!
//! Everything inside ends with pid 1. Needs root; a plain user on a cgroup v2 machine runs
//! the supervisor directly, since rootless Podman works there as it is.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, User};

use super::layout::{Layout, USER};

/// The user whose containers the world runs.
#[derive(Debug, Clone)]
pub struct Owner {
    pub uid: Uid,
    pub gid: Gid,
    pub name: String,
}

impl Owner {
    /// The caller, or for root the unprivileged user, made if it is missing. `useradd` also gives
    /// it its ranges in `/etc/subuid` and `/etc/subgid`.
    pub fn find_or_create() -> anyhow::Result<Self> {
        let me = nix::unistd::geteuid();
        if !me.is_root() {
            let user = User::from_uid(me)?.context("the calling user has no entry in passwd")?;
            return Ok(user.into());
        }
        if let Some(user) = User::from_name(USER)? {
            return Ok(user.into());
        }
        let home = ["--no-create-home", "--home-dir", "/nonexistent"];
        run("useradd", &home, &["--shell", "/usr/sbin/nologin", USER])?;
        Ok(User::from_name(USER)?.context("useradd made no user")?.into())
    }

    /// Gives `path` to this user.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .with_context(|| format!("cannot give {} to {}", path.display(), self.name))
    }

    /// `/run/user/UID`.
    pub fn runtime_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/user/{}", self.uid))
    }
}

impl From<User> for Owner {
    fn from(user: User) -> Self {
        Self { uid: user.uid, gid: user.gid, name: user.name }
    }
}

/// What rootless containers need of `/dev`, with the numbers from the kernel's device list. Udev
/// gives them to everybody; a machine without it leaves them to root.
const DEVICES: [(&str, u64, u64); 2] = [("/dev/net/tun", 10, 200), ("/dev/fuse", 10, 229)];

/// Mounts a device that everybody may use over one reserved for root, within this world.
fn open_device(layout: &Layout, device: &(&str, u64, u64)) -> anyhow::Result<()> {
    let (path, major, minor) = *device;
    let Ok(present) = fs::metadata(path) else { return Ok(()) };
    if present.permissions().mode() & 0o006 == 0o006 {
        return Ok(());
    }
    let name = Path::new(path).file_name().context("a device without a name")?;
    let ours = layout.path(name);
    if !ours.exists() {
        mknod(&ours, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))
            .with_context(|| format!("cannot make {}", ours.display()))?;
    }
    // Not left to the umask.
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o666))?;
    remount(Some(&ours.to_string_lossy()), path, None, MsFlags::MS_BIND, None)
}

/// What the package sets for Caddy's reloads. The world shares the machine's network, so this setting
/// of the shipped file is made there too; it harms nobody and stays.
const SYSCTLS: &str = include_str!("../../../systemd/sysctl.d/60-buddo.conf");

fn migrate_requests() -> anyhow::Result<()> {
    let key = "net.ipv4.tcp_migrate_req";
    let line =
        SYSCTLS.lines().filter_map(|line| line.split_once('=')).find(|(k, _)| k.trim() == key);
    let (_, value) = line.with_context(|| format!("60-buddo.conf does not set {key}"))?;
    let path = Path::new("/proc/sys").join(key.replace('.', "/"));
    // Kernels before 5.14 do not have it.
    if !path.exists() {
        return Ok(());
    }
    fs::write(&path, value.trim()).with_context(|| format!("cannot set {key}"))
}

/// First half, still outside: a session and a cgroup of its own, then `unshare`.
pub(super) fn enter(layout: &Layout) -> anyhow::Result<()> {
    nix::unistd::setsid().context("cannot begin a session")?;
    let cgroup = cgroup_root()?.join(layout.cgroup());
    fs::create_dir_all(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
    join(&cgroup)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).context("cannot make a cgroup namespace")?;
    // `unshare` stays and waits. In the world's root it would keep controllers from being enabled
    // there, and crun tries that for two seconds at every start.
    let main = cgroup.join("main");
    fs::create_dir_all(&main).with_context(|| format!("cannot make {}", main.display()))?;
    join(&main)?;
    let program = std::env::current_exe()?;
    let failed = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--"])
        .arg(program)
        .args(["init", &layout.number().to_string()])
        .exec();
    Err(failed).context("cannot run unshare")
}

/// Second half, inside: what a machine has and a plain process lacks.
pub(super) fn init(layout: &Layout, owner: &Owner) -> anyhow::Result<()> {
    // The old /proc is still mounted: these are our pids as seen from outside.
    let outer = fs::read_link("/proc/self")?;
    let started = start_time(&outer.to_string_lossy()).context("no start time in /proc")?;

    remount(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    remount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None)?;
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).context("cannot unmount /sys/fs/cgroup")?;
    remount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None)?;
    delegate(Path::new("/sys/fs/cgroup"), owner)?;

    let runtime = owner.runtime_dir();
    fs::create_dir_all(&runtime)?;
    let options = format!("mode=700,uid={},gid={}", owner.uid, owner.gid);
    let runtime = runtime.to_string_lossy();
    remount(Some("tmpfs"), &runtime, Some("tmpfs"), MsFlags::empty(), Some(&options))?;
    remount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some("mode=1777"))?;
    DEVICES.iter().try_for_each(|device| open_device(layout, device))?;
    migrate_requests()?;
    // Podman needs mounts of the root to propagate into its own namespaces.
    remount(None, "/", None, MsFlags::MS_REC | MsFlags::MS_SHARED, None)?;
    fs::write(layout.path("init.pid"), format!("{} {started}\n", outer.display()))?;
    Ok(())
}

/// The outer pid of the world's first process, if it runs. A reused number does not count.
pub(super) fn init_pid(layout: &Layout) -> Option<i32> {
    let text = fs::read_to_string(layout.path("init.pid")).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    (start_time(pid)?.to_string() == started).then_some(())?;
    pid.parse().ok()
}

/// Becomes a program inside a running world, as its user: in its cgroup too, which namespaces
/// alone do not provide and without which Podman does not find its own cgroup.
pub(super) fn inside(layout: &Layout, owner: &Owner, argv: &[String]) -> anyhow::Result<()> {
    let pid = init_pid(layout).with_context(|| format!("world {} is not up", layout.number()))?;
    join(&cgroup_root()?.join(layout.cgroup()).join("main"))?;
    let failed = Command::new("nsenter")
        .args(["--target", &pid.to_string(), "--mount", "--pid", "--cgroup", "--"])
        .args(["setpriv", &format!("--reuid={}", owner.uid), &format!("--regid={}", owner.gid)])
        .args(["--clear-groups", "--"])
        .args(argv)
        .exec();
    Err(failed).context("cannot run nsenter")
}

/// Where the kernel's cgroup v2 tree is mounted, also beside v1 ones.
pub(super) fn cgroup_root() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    root.context("cgroup v2 is not mounted; boot with systemd.unified_cgroup_hierarchy=1")
}

/// Removes the world's cgroups; they are the kernel's and outlive the namespaces.
pub(super) fn remove_cgroup(layout: &Layout) -> anyhow::Result<bool> {
    fn remove(dir: &Path) -> bool {
        let Ok(entries) = fs::read_dir(dir) else { return !dir.exists() };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        fs::remove_dir(dir).is_ok()
    }
    let dir = cgroup_root()?.join(layout.cgroup());
    if dir.join("cgroup.kill").exists() {
        let _ = fs::write(dir.join("cgroup.kill"), "1");
    }
    Ok(!dir.exists() || remove(&dir))
}

/// Moves this process below `root` and hands the tree to `owner` with all its controllers: a
/// cgroup with processes of its own may not give controllers to children.
pub(super) fn delegate(root: &Path, owner: &Owner) -> anyhow::Result<()> {
    let main = root.join("main");
    fs::create_dir_all(&main)?;
    join(&main)?;
    for controller in fs::read_to_string(root.join("cgroup.controllers"))?.split_whitespace() {
        // Some cannot be delegated (cpu with real-time processes); the agent says which it lacks.
        let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    for dir in [root, &main] {
        owner.own(dir)?;
        for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            owner.own(&dir.join(file))?;
        }
    }
    Ok(())
}

/// Moves this process into a cgroup.
pub(super) fn join(cgroup: &Path) -> anyhow::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move into {}", cgroup.display()))
}

fn remount(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> anyhow::Result<()> {
    mount(source, target, kind, flags, options).with_context(|| format!("cannot mount {target}"))
}

/// Start time of a process that runs (`proc_pid_stat(5)`, field 22); none for a zombie.
fn start_time(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Runs a system tool to completion.
pub(super) fn run(program: &str, options: &[&str], arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(options)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}; is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}

/// The cgroup this process is in, in the v2 tree.
pub(super) fn own_cgroup() -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(cgroup_root()?.join(path.context("this process is in no cgroup of version 2")?))
}
