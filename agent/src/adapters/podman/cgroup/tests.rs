//! Over folders that look like the kernel's.

use super::*;
use crate::model::cgroup::CgroupLimits;

const ID: &str = "1435ea19";
const SCOPE: &str = "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-1435ea19.scope";

/// A folder that looks like the kernel's.
struct Kernel(tempfile::TempDir);

impl Kernel {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn events(&self, cgroup: &str, oom: u64, oom_kill: u64) {
        let text =
            format!("low 0\nhigh 0\nmax 812\noom {oom}\noom_kill {oom_kill}\noom_group_kill 0\n");
        self.write(&format!("cgroup/{cgroup}/memory.events"), &text);
    }

    fn kills(&self, pid: u32) -> Option<u64> {
        let (proc, cgroup) = (self.0.path().join("proc"), self.0.path().join("cgroup"));
        CgroupFs { proc, cgroup }.kills(&Process { container: ID.to_owned(), pid })
    }
}

#[test]
fn oom_kills_are_read_at_any_cgroup_level_and_reset_with_each_run() {
    for (process, counted) in [
        ("/container", "/container"),
        ("/container", ""),
        ("", ""),
        // An init system inside.
        ("/container/init.scope", "/container"),
    ] {
        let kernel = Kernel::new();
        kernel.write("proc/7/cgroup", &format!("0::/{SCOPE}{process}\n"));
        assert_eq!(kernel.kills(7), None, "the host has no memory controller");
        for count in [0, 1, 5] {
            kernel.events(&format!("{SCOPE}{counted}"), count, count);
            assert_eq!(kernel.kills(7), Some(count), "{process} {counted}");
        }
        std::fs::remove_dir_all(kernel.0.path().join("cgroup").join(SCOPE)).unwrap();
        assert_eq!(kernel.kills(7), None, "it has ended");
        kernel.write("proc/8/cgroup", &format!("0::/{SCOPE}{process}\n"));
        kernel.events(&format!("{SCOPE}{counted}"), 0, 0);
        assert_eq!((kernel.kills(8), kernel.kills(9)), (Some(0), None));
    }
}

/// `--cgroup-manager=cgroupfs` uses other names.
#[test]
fn cgroups_of_the_cgroupfs_manager_are_found() {
    let kernel = Kernel::new();
    kernel.write("proc/7/cgroup", &format!("0::/libpod_parent/libpod-{ID}/container\n"));
    kernel.events(&format!("libpod_parent/libpod-{ID}/container"), 2, 3);
    assert_eq!(kernel.kills(7), Some(2));
}

impl Kernel {
    fn fs(&self) -> CgroupFs {
        CgroupFs { proc: self.0.path().join("proc"), cgroup: self.0.path().join("cgroup") }
    }

    fn find(&self, pid: u32) -> Cgroup {
        self.fs().find(&Process { container: ID.to_owned(), pid })
    }

    /// A running process in this cgroup.
    fn runs(&self, pid: u32, cgroup: &str) {
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::/{cgroup}\n"));
        self.write(&format!("proc/{pid}/stat"), &format!("{pid} (a) b) S 1 1\n"));
    }

    fn limits(&self, cgroup: &str, [memory, swap, cpu, pids]: [&str; 4]) {
        for (file, text) in [
            ("memory.max", memory),
            ("memory.swap.max", swap),
            ("cpu.max", cpu),
            ("pids.max", pids),
        ] {
            self.write(&format!("cgroup/{cgroup}/{file}"), &format!("{text}\n"));
        }
    }
}

const NONE: [&str; 4] = ["max", "max", "max 100000", "max"];
const ORDERED: [&str; 4] = ["268435456", "0", "24500 100000", "256"];

fn ordered() -> CgroupLimits {
    CgroupLimits {
        memory: Some(256 << 20),
        swap: Some(0),
        cpu_millicores: Some(245),
        pids: Some(256),
    }
}

#[test]
fn limits_are_those_of_the_strictest_level() {
    let (kernel, inner) = (Kernel::new(), format!("{SCOPE}/container"));
    kernel.runs(7, &inner);
    for (of_scope, of_inner) in [(NONE, ORDERED), (ORDERED, NONE), (ORDERED, ORDERED)] {
        kernel.limits(SCOPE, of_scope);
        kernel.limits(&inner, of_inner);
        assert_eq!(kernel.find(7), Cgroup::Own(ordered()));
    }
    kernel.limits(SCOPE, NONE);
    kernel.limits(&inner, NONE);
    assert_eq!(kernel.find(7), Cgroup::Own(CgroupLimits::default()));
    kernel.limits(&inner, ["x", "", "100000", "-1"]);
    assert_eq!(kernel.find(7), Cgroup::Own(CgroupLimits::default()), "nonsense limits nothing");
}

#[test]
fn without_controllers_nothing_is_limited() {
    let kernel = Kernel::new();
    kernel.write("proc/swaps", "Filename Type Size Used Priority\n/dev/vda2 partition 1 0 -2\n");
    kernel.runs(7, &format!("{SCOPE}/container"));
    assert_eq!(kernel.find(7), Cgroup::Own(CgroupLimits::default()));
    // A host without swap: it makes no difference that the kernel does not count it.
    kernel.write("proc/swaps", "Filename Type Size Used Priority\n");
    let no_swap = CgroupLimits { swap: Some(0), ..CgroupLimits::default() };
    assert_eq!(kernel.find(7), Cgroup::Own(no_swap));
    // A hybrid hierarchy: the controllers are those of version 1.
    kernel.write("proc/8/cgroup", &format!("9:memory:/{SCOPE}\n0::/{SCOPE}\n"));
    assert_eq!(kernel.find(8), Cgroup::Own(no_swap));
}

/// As Podman does it without a user bus.
#[test]
fn fm_78_a_container_in_the_cgroup_of_podmans_unit_is_recognised() {
    let kernel = Kernel::new();
    let unit = "user.slice/user-999.slice/user@999.service/app.slice/buddo-podman.service";
    kernel.runs(7, unit);
    kernel.limits(unit, ORDERED);
    assert_eq!(kernel.find(7), Cgroup::Shared);
    // Version 1 alone.
    kernel.runs(8, "");
    kernel.write("proc/8/cgroup", &format!("9:memory:/{SCOPE}\n1:name=systemd:/{SCOPE}\n"));
    assert_eq!(kernel.find(8), Cgroup::Shared);
    // What has ended, waited for or not, says nothing.
    kernel.write("proc/7/stat", "7 (a) b) Z 1 1\n");
    assert_eq!((kernel.find(7), kernel.find(9)), (Cgroup::Gone, Cgroup::Gone));
}

#[test]
fn host_wide_oom_kills_are_not_counted_against_the_container() {
    let kernel = Kernel::new();
    kernel.write("proc/7/cgroup", &format!("0::/{SCOPE}/container\n"));
    kernel.events(&format!("{SCOPE}/container"), 0, 4);
    assert_eq!(kernel.kills(7), Some(0));
}

#[test]
fn a_reused_pid_is_not_taken_for_the_container() {
    let kernel = Kernel::new();
    for other in ["0::/user.slice/x.scope", "0::/", "0::/../libpod-1435ea19.scope", ""] {
        kernel.write("proc/7/cgroup", other);
        kernel.events("user.slice/x.scope", 9, 9);
        kernel.events("libpod-1435ea19.scope", 9, 9);
        assert_eq!(kernel.kills(7), None, "{other}");
    }
    kernel.write("proc/7/cgroup", "0::/libpod-1435ea19ff.scope\n");
    kernel.events("libpod-1435ea19ff.scope", 9, 9);
    assert_eq!(kernel.kills(7), None);
}

#[test]
fn cgroup_v1_and_malformed_counters_give_no_count() {
    let kernel = Kernel::new();
    let v1 = format!("9:memory:/{SCOPE}\n1:name=systemd:/{SCOPE}\n");
    kernel.write("proc/7/cgroup", &v1);
    kernel.events(SCOPE, 9, 9);
    assert_eq!(kernel.kills(7), None);
    kernel.write("proc/7/cgroup", &format!("{v1}0::/{SCOPE}\n"));
    for nonsense in ["", "oom 1\n", "oom x\noom_kill 1\n", "oom_kill 1\n"] {
        kernel.write(&format!("cgroup/{SCOPE}/memory.events"), nonsense);
        assert_eq!(kernel.kills(7), None, "{nonsense}");
    }
}

#[test]
fn counts_are_read_at_the_level_that_has_the_limit() {
    let (kernel, inner) = (Kernel::new(), format!("{SCOPE}/container"));
    kernel.runs(7, &inner);
    let count = |pid| kernel.fs().count(&Process { container: ID.to_owned(), pid });
    assert_eq!(count(7), None, "there are no controllers");
    kernel.write(&format!("cgroup/{SCOPE}/cpu.stat"), "usage_usec 9\nuser_usec 5\nsystem_usec 4\n");
    assert_eq!(count(7), None, "the time is counted without any controller");
    let stat = "usage_usec 9\nnr_periods 50\nnr_throttled 40\nthrottled_usec 3000000\n";
    kernel.write(&format!("cgroup/{inner}/cpu.stat"), stat);
    kernel.write(&format!("cgroup/{inner}/pids.events"), "max 3\n");
    kernel.write(&format!("cgroup/{SCOPE}/pids.events"), "max 0\n");
    kernel.events(SCOPE, 2, 2);
    kernel.events(&inner, 2, 2);
    let counted = CgroupCounts {
        oom_kills: 2,
        pids_refused: 3,
        throttled_periods: 40,
        throttled_us: 3_000_000,
    };
    assert_eq!(count(7), Some(counted));
    assert_eq!(count(8), None, "it has ended");
}
