//! The process that forwards a host port into a container, found by the address it listens on.
//!
//! ```text
//! /proc/net/tcp: address ──► inode of its socket ──► /proc/PID/fd: who has that socket
//! ```
//!
//! Which container it serves cannot be seen from there. If the address of an
//! orphan now belongs to another app, the address is all there is to go by.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::Signal;

use super::process::{KILLED, PROC, command_line, failed, gone, look, own, signal_if};
use crate::ports::ContainersError;

const OPERATION: &str = "end what holds an address";

/// Names of Podman's forwarders: 4.x's, and pasta's, which 5.x uses.
const FORWARDERS: [&str; 4] = ["rootlessport", "rootlessport-child", "pasta", "pasta.avx2"];

/// Socket state "listening" (`proc_net_tcp(5)`).
const LISTENS: &str = "0A";

/// Ends the forwarder that holds `address`, if it is one of this user's. Only where no container of
/// ours that Podman knows is published there: slot addresses belong to the agent alone.
pub(super) async fn end(address: SocketAddrV4) -> Result<(), ContainersError> {
    for pid in look(OPERATION, move |proc| holders(proc, address)).await? {
        tracing::warn!(%address, pid, "ending the port forwarder of an orphaned container");
        let still = || is_forwarder(Path::new(PROC), pid);
        for signal in [Signal::TERM, Signal::KILL] {
            signal_if(pid, signal, still).map_err(failed(OPERATION))?;
            if gone(pid, KILLED).await {
                break;
            }
        }
    }
    Ok(())
}

fn holders(proc: &Path, address: SocketAddrV4) -> io::Result<Vec<u32>> {
    let table = std::fs::read_to_string(proc.join("net/tcp"))?;
    let Some(inode) = listener(&table, address) else { return Ok(Vec::new()) };
    let socket = format!("socket:[{inode}]");
    let has = |pid: &u32| {
        let Ok(files) = std::fs::read_dir(proc.join(pid.to_string()).join("fd")) else {
            return false;
        };
        let mut targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| target.as_os_str() == socket.as_str())
    };
    let forwarders = own(proc)?.filter(|pid| is_forwarder(proc, *pid));
    Ok(forwarders.filter(has).collect())
}

fn is_forwarder(proc: &Path, pid: u32) -> bool {
    // Not the kernel's name for it: it runs Podman's own program, via `/proc/self/exe`.
    let line = command_line(proc, pid).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = Path::new(OsStr::from_bytes(program)).file_name();
    name.is_some_and(|name| FORWARDERS.iter().any(|known| *known == name))
}

/// The inode of the socket listening at `address`, from the kernel's table.
fn listener(table: &str, address: SocketAddrV4) -> Option<u64> {
    let inode = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = parse(fields.next()?)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        (local == address && state == LISTENS).then_some(inode)
    };
    table.lines().skip(1).find_map(inode)
}

/// `0100007F:1F40`: the address in machine byte order, then the port.
fn parse(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(Ipv4Addr::from(address), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn finds_the_socket_that_listens_on_an_address() {
        let listener_of = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = listener_of.local_addr().unwrap() else { panic!() };
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let inode = listener(&table, address).expect("it listens");
        let descriptor = format!("/proc/self/fd/{}", listener_of.as_raw_fd());
        let target = std::fs::read_link(descriptor).unwrap();
        assert_eq!(target.as_os_str(), format!("socket:[{inode}]").as_str());
        // Held by this test process, which is not a forwarder.
        assert!(holders(Path::new(PROC), address).unwrap().is_empty());
        drop(listener_of);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        assert_eq!(listener(&table, address), None);
    }
}
