//! The user, the kernel, the clock.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::{User, geteuid};
use tokio::process::Command;

use super::super::gathered::{Host, PathInfo, Seen, Sysctl};
use super::{aside, installed, path_info, read, within};

pub(super) async fn gather() -> Host {
    let uid = geteuid().as_raw();
    let user = aside(|| {
        let user = User::from_uid(geteuid()).map_err(|error| error.to_string())?;
        Ok(user.map(|user| user.name))
    })
    .await
    .unwrap_or_default();
    let (subuids, subgids) = (user.clone(), user.clone());
    let (subuids, subgids, rest, clock_kept, runtime) = tokio::join!(
        aside(move || subordinate("/etc/subuid", subuids.as_deref(), uid)),
        aside(move || subordinate("/etc/subgid", subgids.as_deref(), uid)),
        aside(move || Ok((sysctl(), controllers(uid), missing_id_tools(), tun()))),
        within(clock_kept()),
        runtime(),
    );
    let (sysctl, controllers, missing_id_tools, tun) = rest
        .unwrap_or_else(|reason| (Sysctl::default(), Err(reason.clone()), Vec::new(), Err(reason)));
    let linger = user.as_ref().map(|user| Path::new("/var/lib/systemd/linger").join(user));
    Host {
        uid,
        lingers: linger.is_some_and(|file| file.exists()),
        user,
        subordinate: [subuids, subgids],
        missing_id_tools,
        runtime_dir: runtime.0,
        manager: runtime.1,
        sysctl,
        tun,
        controllers,
        clock_kept,
    }
}

/// How many ids a user has in a table of `subuid(5)`, by name or by number.
fn subordinate(table: &str, user: Option<&str>, uid: u32) -> Seen<u64> {
    Ok(count(&read(Path::new(table))?, user, uid))
}

fn count(table: &str, user: Option<&str>, uid: u32) -> u64 {
    let uid = uid.to_string();
    let ours = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        (Some(owner) == user || owner == uid).then_some(())?;
        fields.nth(1)?.parse::<u64>().ok()
    };
    table.lines().filter_map(ours).sum()
}

/// Opening it changes nothing: an interface is made by an ioctl (the kernel's `tuntap.rst`).
fn tun() -> Seen<()> {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    opened.map(drop).map_err(|error| error.to_string())
}

fn missing_id_tools() -> Vec<&'static str> {
    const TOOLS: [&str; 2] = ["newuidmap", "newgidmap"];
    let there = installed(&TOOLS);
    TOOLS.into_iter().filter(|tool| !there.contains(tool)).collect()
}

fn sysctl() -> Sysctl {
    let number = |name: &str| -> Option<u64> {
        read(&Path::new("/proc/sys").join(name)).ok()?.split_whitespace().next()?.parse().ok()
    };
    Sysctl {
        tcp_migrate_req: number("net/ipv4/tcp_migrate_req"),
        unprivileged_port_start: number("net/ipv4/ip_unprivileged_port_start"),
        inotify_instances: number("fs/inotify/max_user_instances"),
        max_user_namespaces: number("user/max_user_namespaces"),
        unprivileged_userns_clone: number("kernel/unprivileged_userns_clone"),
        max_keys: number("kernel/keys/maxkeys"),
    }
}

/// Controllers of the user's services (`cgroups(7)`): those of its manager, because this process
/// may have been started from a login. Without a manager, those of this process.
fn controllers(uid: u32) -> Seen<Vec<String>> {
    let root = Path::new("/sys/fs/cgroup");
    let manager =
        root.join(format!("user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"));
    let text = read(&manager).or_else(|_| {
        let own = read(Path::new("/proc/self/cgroup"))?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.ok_or("this process is in no cgroup of version 2")?;
        read(&root.join(own).join("cgroup.controllers"))
    })?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The folder of the user's sockets, and whether the user's systemd listens in it.
async fn runtime() -> (Seen<PathInfo>, bool) {
    let Some(folder) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) else {
        return (Err("XDG_RUNTIME_DIR is not set".to_owned()), false);
    };
    let socket = folder.join("systemd/private");
    let manager = within(async {
        let connected = tokio::net::UnixStream::connect(&socket).await;
        connected.map(drop).map_err(|error| error.to_string())
    });
    let manager = manager.await.is_ok();
    (aside(move || path_info(&folder)).await, manager)
}

/// systemd asks the kernel (`adjtimex(2)`), so this knows of every time service.
async fn clock_kept() -> Seen<bool> {
    let output = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("timedatectl: {error}"))?;
    match output.stdout.trim_ascii() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err("timedatectl does not say so".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_counted_by_user_name_and_by_uid() {
        let table = "buddo:100000:65536\nother:1:9\n# buddo:1:1\n1007:300000:10\nbuddo:x\n\n";
        assert_eq!(count(table, Some("buddo"), 1007), 65_546);
        assert_eq!(count(table, None, 1007), 10);
        assert_eq!(count(table, Some("bud"), 1), 0);
    }
}
