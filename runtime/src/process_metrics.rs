//! Process metrics, with the names that all Prometheus clients use.

use std::sync::atomic::AtomicU64;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Reads the kernel's figures; unreadable ones are left out.
pub fn register(registry: &mut Registry) {
    if let Some(bytes) = resident() {
        let help = "Memory that is resident";
        registry.register_with_unit("process_resident_memory", help, Unit::Bytes, gauge(bytes));
    }
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let cpu: Counter<f64, AtomicU64> = Counter::default();
        cpu.inc_by(seconds(usage.user_time() + usage.system_time()));
        let help = "Processor time, the user's and the system's";
        registry.register_with_unit("process_cpu", help, Unit::Seconds, cpu);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the open directory itself.
        let open = open.count().saturating_sub(1);
        let help = "File descriptors in use";
        registry.register("process_open_fds", help, gauge(open));
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        registry.register("process_max_fds", "File descriptors at most", gauge(soft));
    }
}

/// A gauge that shows `value`.
pub fn gauge(value: impl TryInto<i64>) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    gauge
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are exact for 285 years")]
fn seconds(time: TimeVal) -> f64 {
    time.num_microseconds() as f64 / 1e6
}

/// `VmRSS` of `/proc/self/status` (`proc_pid_status(5)`), in bytes.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
