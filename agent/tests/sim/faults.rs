//! Which faults a seed has, and how often: swarm testing (Groce et al., 2012). A seed with all
//! faults at once finds less than many seeds with a few each, because one fault hides another.

use crate::story::rng::Rng;

/// What goes wrong around the agent, at a moment of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The agent is killed.
    Kill,
    /// The agent is killed and its database is gone.
    LoseDatabase,
    /// Power loss: agent, containers and all that was not synced.
    Reboot,
    /// A container ends with a code.
    Crash,
    /// A container is killed with -9.
    KillContainer,
    /// A container runs and answers nothing for a while.
    Sicken,
    /// Someone stops a container and it gets stuck stopping.
    Stick,
    /// Podman's database is lost: no container is left.
    LoseContainers,
    /// Podman is killed, or has no room, while it writes secrets.
    TearSecrets,
    /// Podman's service answers nothing for a while (SIGSTOP).
    HangPodman,
    /// Podman's service is away for a while.
    RestartPodman,
    /// The event stream is open but silent.
    HangEvents,
    /// A container that is not ours appears.
    Foreign,
    /// Caddy is away for a while.
    StopCaddy,
    /// The live table's file is torn or removed.
    TearTable,
    /// No room on the disk for a while.
    FillDisk,
    /// The wall clock jumps.
    Jump,
    /// The coordinator does not reach the host for a while.
    Partition,
    /// The host is so busy that no probe is answered in time for a while.
    Starve,
}

const ALL: [Fault; 19] = [
    Fault::Kill,
    Fault::LoseDatabase,
    Fault::Reboot,
    Fault::Crash,
    Fault::KillContainer,
    Fault::Sicken,
    Fault::Stick,
    Fault::LoseContainers,
    Fault::TearSecrets,
    Fault::HangPodman,
    Fault::RestartPodman,
    Fault::HangEvents,
    Fault::Foreign,
    Fault::StopCaddy,
    Fault::TearTable,
    Fault::FillDisk,
    Fault::Jump,
    Fault::Partition,
    Fault::Starve,
];

/// How often, in a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Swarm {
    /// The agent is killed before the call's effect.
    pub(crate) kill_before: u64,
    /// The agent is killed after it.
    pub(crate) kill_after: u64,
    /// The effect is there, the answer is not.
    pub(crate) lose_answer: u64,
    /// No answer until the deadline; the effect may come late, or never.
    pub(crate) hang: u64,
    /// Podman refuses (409, 500).
    pub(crate) refuse: u64,
    /// The connection is refused.
    pub(crate) away: u64,
    /// Podman is killed in the middle of a start: what runs then has no port.
    pub(crate) tear_start: u64,
    /// An event is lost.
    pub(crate) lose_event: u64,
    /// An event comes twice.
    pub(crate) repeat_event: u64,
    /// A write to the database or the table fails.
    pub(crate) fail_write: u64,
    /// A document is followed by a wrong one: repeated, older, expired, conflicting, foreign.
    pub(crate) wrong_document: u64,
    /// An acknowledgement of a document or of reports is lost.
    pub(crate) lose_acknowledgement: u64,
    /// Apps that never start or turn bad, in a thousand new revisions.
    pub(crate) bad_revision: u64,
    /// Calls take longer, up to so many milliseconds.
    pub(crate) slow: u64,
    /// Operators act on so many apps.
    pub(crate) apps: u64,
    /// Seconds that a new revision is watched; 0: not at all.
    pub(crate) rollback_window_s: u32,
    /// Operators mostly deploy new revisions, many of them bad, of apps that were good at first.
    pub(crate) releases: bool,
    /// The coordinator applies none of the reports.
    pub(crate) deaf: bool,
    /// Apps consist of several services and replicas.
    pub(crate) services: bool,
}

impl Swarm {
    /// What `rng` draws, and the faults that come by themselves.
    pub(crate) fn draw(rng: &mut Rng) -> (Self, Vec<Fault>) {
        // A third of all seeds have no faults in calls: there the rules are strictest.
        let calm = rng.per_mille(333);
        let mut some = |most: u64| {
            if calm || rng.per_mille(600) { 0 } else { 1 + rng.below(most) }
        };
        let swarm = Self {
            kill_before: some(15),
            kill_after: some(15),
            lose_answer: some(60),
            hang: some(30),
            refuse: some(60),
            away: some(60),
            lose_event: some(700),
            repeat_event: some(300),
            fail_write: some(100),
            wrong_document: some(500),
            lose_acknowledgement: some(300),
            tear_start: some(60),
            ..Self::default()
        };
        let bad_revision = if rng.per_mille(500) { rng.below(600) } else { 0 };
        let slow = rng.pick(&[5, 30, 300, 1_500]).unwrap_or(30);
        let most = rng.below(5);
        let faults = (0..most).filter_map(|_| rng.pick(&ALL)).collect();
        let apps = rng.pick(&[1, 2, 4]).unwrap_or(4);
        let rollback_window_s = rng.pick(&[0, 20, 120, 120]).unwrap_or_default();
        let releases = rollback_window_s > 0 && rng.per_mille(350);
        let (apps, bad_revision) = if releases { (apps.min(2), 700) } else { (apps, bad_revision) };
        let deaf = rng.per_mille(250);
        let services = rng.per_mille(400);
        (
            Self { bad_revision, slow, apps, rollback_window_s, releases, deaf, services, ..swarm },
            faults,
        )
    }

    /// Nothing goes wrong.
    pub(crate) fn none() -> Self {
        Self { slow: 5, apps: 4, ..Self::default() }
    }
}
