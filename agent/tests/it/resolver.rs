//! The resolver as a process, with the service manager at the other end of `NOTIFY_SOCKET`.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

/// `WatchdogSec`: the loop beats at a third of it.
const BOUND: Duration = Duration::from_millis(1_500);
/// A beat comes within this time, or the resolver is as good as dead.
const SURELY: Duration = Duration::from_secs(20);

struct Resolver(Child);

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(folder: &Path, port: u16) -> Resolver {
    let config = folder.join("agent.toml");
    let (dns, ask) = (format!("127.0.0.1:{port}"), "127.0.0.1:0");
    let state = folder.display();
    let text = format!(
        "state_dir = \"{state}\"\nruntime_dir = \"{state}\"\n\n[resolver]\ndns = \"{dns}\"\nask = \
         \"{ask}\"\ntable = \"{state}/live.json\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_buddo-agent"))
        .args(["resolver", "--config"])
        .arg(&config)
        .env_clear()
        .env("HOME", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("NOTIFY_SOCKET", folder.join("notify.sock"))
        .env("WATCHDOG_USEC", BOUND.as_micros().to_string())
        .stdin(Stdio::null())
        .spawn();
    Resolver(child.unwrap())
}

/// Whether `wanted` comes within `patience`.
fn hears(manager: &UnixDatagram, wanted: &str, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    let mut message = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        manager.set_read_timeout(Some(left)).unwrap();
        let Ok(length) = manager.recv(&mut message) else { return false };
        if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == wanted) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
    }
}

/// `fm_04`: the kernel blocks the loop that answers for ever: the live table is a pipe that nobody
/// writes. All other tasks of the process go on, and must not report that it is alive.
#[test]
fn fm_04_a_hanging_resolver_stops_feeding_its_watchdog() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify.sock")).unwrap();
    let port = free_port();
    let resolver = start(folder.path(), port);
    assert!(hears(&manager, "READY=1", SURELY), "it did not start");
    for _ in 0..3 {
        assert!(hears(&manager, "WATCHDOG=1", SURELY), "an idle resolver is not fed");
    }

    let trap = folder.path().join("live.json");
    nix::unistd::mkfifo(&trap, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    // One more may have been on its way.
    let mut fed = 0;
    while hears(&manager, "WATCHDOG=1", BOUND) {
        fed += 1;
        assert!(fed < 4, "a resolver whose loop hangs says that it lives");
    }

    // What systemd does then.
    drop(resolver);
    std::fs::remove_file(&trap).unwrap();
    let _fresh = start(folder.path(), port);
    assert!(hears(&manager, "WATCHDOG=1", SURELY), "a fresh one is not fed");
}
