//! Each check both ways: a sound host passes all of them, and each fault is found by its own check.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::super::gathered::{
    Agent, Caddy, Facts, Host, PathInfo, Podman, Running, Space, Sysctl, Validity,
};
use super::*;
use crate::adapters::podman::Info;
use crate::config::Environment;
use crate::model::host_facts::LIMITS_NOT_ENFORCED;

const UID: u32 = 996;
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn config() -> Config {
    let environment = Environment {
        home: Some("/home/a".into()),
        runtime_dir: Some("/run/a".into()),
        ..Environment::default()
    };
    let text = "[caddy.certificate]\ncert = \"/etc/zone.pem\"\nkey = \"/etc/zone.key\"";
    Config::parse(text, &environment).unwrap()
}

fn valid(days_ago: i64, days_left: i64) -> Validity {
    let days = |n: i64| DAY * i32::try_from(n).unwrap();
    Validity { from: now() - days(days_ago), until: now() + days(days_left) }
}

/// A host without faults.
fn sound() -> Facts {
    let private = PathInfo { uid: UID, mode: 0o700 };
    let routes = vec!["zone.caddy".to_owned()];
    Facts {
        now: now(),
        host: Host {
            uid: UID,
            user: Some("buddo".to_owned()),
            subordinate: [Ok(65_536), Ok(65_536)],
            missing_id_tools: Vec::new(),
            lingers: true,
            runtime_dir: Ok(private),
            manager: true,
            sysctl: Sysctl {
                tcp_migrate_req: Some(1),
                unprivileged_port_start: Some(80),
                inotify_instances: Some(8192),
                max_user_namespaces: Some(15_000),
                unprivileged_userns_clone: None,
                max_keys: Some(8192),
            },
            tun: Ok(()),
            controllers: Err("not asked".to_owned()),
            clock_kept: Ok(true),
        },
        agent: Agent {
            running: Ok(Running {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                joined: true,
                document: Some(("1.7".to_owned(), false)),
                warnings: Vec::new(),
                lacks: None,
                core_limit: Ok(Some(0)),
                routes: routes.clone(),
            }),
            state_dir: Ok(private),
            keys: vec![(PathBuf::from("/s/host.key"), PathInfo { uid: UID, mode: 0o600 })],
            certificate: Ok(Some(valid(30, 60))),
            listens: Ok(()),
            reserve: Ok(true),
            dns: Ok(()),
            ask: Ok(()),
        },
        podman: Podman {
            info: Ok(Info {
                version: "4.3.1".to_owned(),
                cgroup_version: "v2".to_owned(),
                cgroup_controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
                cgroup_manager: Some("systemd".to_owned()),
                storage_driver: "overlay".to_owned(),
                graph_root: None,
                image_paths: Vec::new(),
                network_backend: Some("netavark".to_owned()),
                containers: 12,
                free_locks: None,
                rootless: true,
            }),
            command: Ok(["/usr/bin/podman", "system", "service", "--time=0"]
                .map(str::to_owned)
                .to_vec()),
            keyring: Ok(false),
            firewalls: vec!["iptables"],
        },
        caddy: Caddy {
            admin: Ok(()),
            admin_socket: Ok(PathInfo { uid: UID, mode: 0o755 }),
            version: Some("2.11.7".to_owned()),
            main_file: Ok("import `/home/a/.local/state/buddo-agent/caddy/routes/*.caddy`".into()),
            route_files: Ok(routes),
            edge: Ok(()),
            certificate: Some(Ok(valid(30, 60))),
        },
        disks: vec![("disk-state", PathBuf::from("/s"), Ok(space(50, 50)))],
    }
}

/// Of a disk of 100 GiB, in per cent.
fn space(free: u64, free_inodes: u64) -> Space {
    let bytes = crate::process::disk_space::Space { used: (100 - free) << 30, free: free << 30 };
    Space { bytes, free_inodes, total_inodes: 100 }
}

fn gone<T>() -> Result<T, String> {
    Err("it is not there".to_owned())
}

fn info(facts: &mut Facts) -> &mut Info {
    facts.podman.info.as_mut().unwrap()
}

fn running(facts: &mut Facts) -> &mut Running {
    facts.agent.running.as_mut().unwrap()
}

/// The check, the severity, and the fault made on a sound host.
type Fault = (&'static str, Severity, fn(&mut Facts));

use Severity::{Failure, Warning};

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    ("user", Failure, |f| f.host.user = None),
    ("subordinate-ids", Failure, |f| f.host.subordinate[0] = Ok(1_000)),
    ("subordinate-ids", Failure, |f| f.host.subordinate[1] = gone()),
    ("id-tools", Failure, |f| f.host.missing_id_tools.push("newuidmap")),
    ("linger", Failure, |f| f.host.lingers = false),
    ("runtime-dir", Failure, |f| f.host.runtime_dir = gone()),
    ("runtime-dir", Failure, |f| f.host.runtime_dir = Ok(PathInfo { uid: 0, mode: 0o700 })),
    ("runtime-dir", Failure, |f| f.host.runtime_dir = Ok(PathInfo { uid: UID, mode: 0o755 })),
    ("user-manager", Warning, |f| f.host.manager = false),
    ("user-namespaces", Failure, |f| f.host.sysctl.max_user_namespaces = Some(0)),
    ("user-namespaces", Failure, |f| f.host.sysctl.unprivileged_userns_clone = Some(0)),
    ("tun-device", Failure, |f| f.host.tun = gone()),
    ("cgroups", Failure, |f| info(f).cgroup_version = "v1".to_owned()),
    ("cgroups", Failure, |f| info(f).cgroup_controllers.truncate(1)),
    ("cgroups", Failure, |f| info(f).cgroup_manager = Some("cgroupfs".to_owned())),
    ("cgroups", Failure, |f| info(f).cgroup_manager = None),
    ("cgroups", Failure, |f| f.podman.info = gone()),
    ("low-ports", Failure, |f| {
        f.host.sysctl.unprivileged_port_start = None;
        f.caddy.edge = gone();
    }),
    ("reload-resets", Warning, |f| f.host.sysctl.tcp_migrate_req = Some(0)),
    ("reload-resets", Warning, |f| f.host.sysctl.tcp_migrate_req = None),
    ("inotify", Warning, |f| f.host.sysctl.inotify_instances = Some(128)),
    ("kernel-keys", Warning, |f| f.podman.keyring = Ok(true)),
    ("kernel-keys", Warning, |f| {
        f.podman.keyring = gone();
        f.host.sysctl.max_keys = Some(200);
    }),
    ("clock", Warning, |f| f.host.clock_kept = Ok(false)),
    ("clock", Warning, |f| f.host.clock_kept = gone()),
    ("podman", Failure, |f| f.podman.info = gone()),
    ("podman", Warning, |f| info(f).version = "4.2.9".to_owned()),
    ("podman-rootless", Failure, |f| info(f).rootless = false),
    ("podman-unit", Warning, |f| f.podman.command = Ok(vec!["/lib/systemd/systemd".to_owned()])),
    ("podman-unit", Warning, |f| { f.podman.command.as_mut().unwrap().pop(); }),
    ("podman-unit", Warning, |f| f.podman.command = gone()),
    ("podman-network", Failure, |f| f.podman.firewalls.clear()),
    ("podman-network", Failure, |f| f.podman.firewalls = vec!["nft"]),
    ("podman-network", Warning, |f| info(f).network_backend = Some("cni".to_owned())),
    ("podman-storage", Warning, |f| info(f).storage_driver = "vfs".to_owned()),
    ("podman-locks", Failure, |f| info(f).free_locks = Some(0)),
    ("podman-locks", Warning, |f| info(f).free_locks = Some(199)),
    ("podman-locks", Warning, |f| info(f).containers = 2_000),
    ("caddy", Failure, |f| f.caddy.admin = gone()),
    ("caddy-admin", Failure, |f| f.caddy.admin_socket = Ok(PathInfo { uid: UID, mode: 0o777 })),
    ("caddy-version", Warning, |f| f.caddy.version = Some("2.11.1".to_owned())),
    ("caddy-version", Warning, |f| f.caddy.version = None),
    ("caddy-main-file", Failure, |f| f.caddy.main_file = gone()),
    ("caddy-main-file", Failure, |f| f.caddy.main_file = Ok("import /elsewhere/*.caddy".to_owned())),
    ("caddy-routes", Warning, |f| f.caddy.route_files.as_mut().unwrap().push("my.caddy".to_owned())),
    ("caddy-routes", Warning, |f| {
        f.agent.running = gone();
        f.caddy.route_files.as_mut().unwrap().push("app-my.caddy".to_owned());
    }),
    ("caddy-routes", Warning, |f| f.caddy.route_files = gone()),
    ("caddy-certificate", Failure, |f| f.caddy.certificate = Some(Ok(valid(90, -1)))),
    ("caddy-certificate", Failure, |f| f.caddy.certificate = Some(gone())),
    ("caddy-certificate", Warning, |f| f.caddy.certificate = Some(Ok(valid(80, 10)))),
    ("edge", Failure, |f| f.caddy.admin = gone()),
    ("edge", Failure, |f| f.caddy.edge = gone()),
    ("resolver", Failure, |f| f.agent.dns = gone()),
    ("resolver", Failure, |f| f.agent.ask = gone()),
    ("state-dir", Failure, |f| f.agent.state_dir = gone()),
    ("state-dir", Failure, |f| f.agent.state_dir = Ok(PathInfo { uid: 0, mode: 0o700 })),
    ("state-dir", Failure, |f| f.agent.state_dir = Ok(PathInfo { uid: UID, mode: 0o770 })),
    ("state-dir", Failure, |f| f.agent.keys[0].1.mode = 0o640),
    ("identity", Failure, |f| f.agent.certificate = gone()),
    ("identity", Failure, |f| f.agent.certificate = Ok(None)),
    ("identity", Failure, |f| f.agent.certificate = Ok(Some(valid(90, -1)))),
    ("identity", Failure, |f| f.agent.certificate = Ok(Some(valid(-1, 89)))),
    ("identity", Warning, |f| f.agent.certificate = Ok(Some(valid(80, 10)))),
    ("agent", Failure, |f| f.agent.running = gone()),
    ("agent", Warning, |f| running(f).version = "0.0.1".to_owned()),
    ("limits", Failure, |f| {
        let [code, cause, fix] = [LIMITS_NOT_ENFORCED, "a has no limits", "mend it"].map(str::to_owned);
        running(f).lacks = Some(buddo_shared::host_wire::report::Failure { code, cause, fix });
    }),
    ("listen", Failure, |f| f.agent.listens = gone()),
    ("listen", Failure, |f| f.agent.running = gone()),
    ("core-dumps", Warning, |f| running(f).core_limit = Ok(None)),
    ("core-dumps", Warning, |f| running(f).core_limit = gone()),
    ("document", Warning, |f| running(f).document = None),
    ("document", Warning, |f| running(f).document = Some(("1.7".to_owned(), true))),
    ("document", Warning, |f| running(f).warnings.push("the document was refused".to_owned())),
    ("disk-reserve", Warning, |f| f.agent.reserve = Ok(false)),
    ("disk-reserve", Warning, |f| f.agent.reserve = gone()),
    ("disk-state", Warning, |f| f.disks[0].2 = Ok(space(14, 50))),
    ("disk-state", Warning, |f| f.disks[0].2 = Ok(space(50, 14))),
    ("disk-state", Failure, |f| f.disks[0].2 = Ok(space(50, 4))),
    ("disk-state", Failure, |f| f.disks[0].2 = Ok(space(0, 50))),
    ("disk-state", Warning, |f| f.disks[0].2 = gone()),
];

#[test]
fn a_sound_host_passes_every_check() {
    let findings = judge(&sound(), &config());
    let wrong: Vec<_> = findings.iter().filter(|f| f.severity != Severity::Ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(findings.len(), CHECKS.len() + 1, "each check says something");
}

#[test]
fn each_fault_is_found_by_its_own_check_with_a_fix() {
    for (at, (check, severity, fault)) in FAULTS.iter().enumerate() {
        let mut facts = sound();
        fault(&mut facts);
        let findings = judge(&facts, &config());
        let found = findings.iter().find(|finding| finding.check == *check);
        let found = found.unwrap_or_else(|| panic!("fault {at}: {check} says nothing"));
        assert_eq!(found.severity, *severity, "fault {at}: {found:?}");
        assert!(found.fix.as_ref().is_some_and(|fix| !fix.is_empty()), "fault {at}: {found:?}");
    }
}

#[test]
fn every_check_is_covered_by_a_fault() {
    let checks: BTreeSet<_> = CHECKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(checks.len(), CHECKS.len(), "names are unique");
    let faults: BTreeSet<_> = FAULTS.iter().map(|(name, ..)| *name).collect();
    let missing: Vec<_> = checks.difference(&faults).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn missing_facts_give_one_finding_per_cause() {
    let nothing = || gone::<()>();
    let mut facts = sound();
    facts.host.subordinate = [gone(), gone()];
    facts.host.sysctl = Sysctl::default();
    facts.host.runtime_dir = gone();
    facts.host.controllers = gone();
    facts.agent = Agent {
        running: gone(),
        state_dir: gone(),
        keys: Vec::new(),
        certificate: Ok(None),
        reserve: gone(),
        listens: nothing(),
        dns: nothing(),
        ask: nothing(),
    };
    facts.podman = Podman { info: gone(), command: gone(), keyring: gone(), firewalls: Vec::new() };
    facts.caddy = Caddy {
        admin: nothing(),
        admin_socket: gone(),
        version: None,
        main_file: gone(),
        route_files: gone(),
        edge: nothing(),
        certificate: None,
    };
    let findings = judge(&facts, &config());
    let failed = |check| findings.iter().any(|f| f.check == check && f.severity == Failure);
    for check in ["podman", "caddy", "resolver", "state-dir", "identity", "agent", "cgroups"] {
        assert!(failed(check), "{check}: {findings:#?}");
    }
    // One cause is one finding: no details about something that does not answer.
    for check in ["podman-network", "podman-locks", "caddy-version", "listen", "document"] {
        assert!(findings.iter().all(|finding| finding.check != check), "{check}");
    }
}

#[test]
fn unenforced_limits_that_are_allowed_are_a_warning() {
    let mut config = config();
    config.podman.allow_unenforced_limits = true;
    let mut facts = sound();
    info(&mut facts).cgroup_controllers.clear();
    let findings = judge(&facts, &config);
    let found = findings.iter().find(|finding| finding.check == "cgroups").unwrap();
    assert_eq!(found.severity, Warning);
}

#[test]
fn fm_78_a_missing_user_bus_is_found_with_its_fix() {
    let mut facts = sound();
    info(&mut facts).cgroup_manager = Some("cgroupfs".to_owned());
    let findings = judge(&facts, &config());
    let found = findings.iter().find(|finding| finding.check == "cgroups").unwrap();
    assert_eq!(found.severity, Failure);
    let fix = found.fix.as_deref().unwrap();
    assert!(fix.contains("dbus-user-session") && fix.contains("user@996"), "{fix}");
}

#[test]
fn passes_without_iptables_on_newer_podman_and_before_a_first_document() {
    let mut facts = sound();
    info(&mut facts).version = "5.4.2".to_owned();
    facts.podman.firewalls = vec!["nft"];
    facts.caddy.edge = gone();
    facts.caddy.route_files = Ok(Vec::new());
    let findings = judge(&facts, &config());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
}

#[test]
fn versions_are_compared_by_number() {
    for (version, least, expected) in [
        ("4.3.1", [4, 3, 1], false),
        ("4.10.0", [4, 3, 1], false),
        ("4.3.0", [4, 3, 1], true),
        ("3.9", [4, 3, 1], true),
        ("2.11.2-beta.1", [2, 11, 2], false),
        ("unknown", [2, 11, 2], false),
    ] {
        assert_eq!(podman::older(version, least), expected, "{version}");
    }
}

/// The marks are those by which the agent removes images and refuses pulls.
#[test]
fn disks_are_judged_by_the_configured_marks() {
    let environment = Environment {
        home: Some("/home/a".into()),
        runtime_dir: Some("/run/a".into()),
        ..Environment::default()
    };
    for (text, free, expected) in [
        ("high_percent = 95", 14, Severity::Ok),
        ("high_percent = 60", 30, Warning),
        ("floor_mb = 40960", 30, Failure),
        ("high_percent = 99\nfloor_mb = 16", 1, Severity::Ok),
    ] {
        let config = Config::parse(&format!("[disk]\n{text}"), &environment).unwrap();
        let mut facts = sound();
        facts.disks[0].2 = Ok(space(free, 50));
        let findings = judge(&facts, &config);
        let found = findings.iter().find(|finding| finding.check == "disk-state").unwrap();
        assert_eq!(found.severity, expected, "{text}: {found:?}");
    }
}
