//! Podman: containers, images, secrets, events, and everything that goes wrong with them.
//!
//! A request that was sent is carried out by Podman, whatever becomes of the agent that sent it: so
//! effects run in tasks of the machine, and a killed or impatient agent only misses the answer.
//!
//! ```text
//! the agent ──► port (what it may ask) ──► fate (what becomes of a call) ──► effects ──► Engine
//!                                                                              └► events
//! ```

mod effects;
mod fate;
mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;

use buddo_agent::model::container::{Container, ContainerState, Identity, Process};
use buddo_agent::model::health::ProbeOutcome;
use buddo_agent::ports::ContainersError;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::Digest;
use tokio::time::Instant;

use crate::world::{State, World};

/// A container in Podman's view.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so whatever the others are")]
pub(crate) struct Boxed {
    /// What its labels say; `None` for a foreign one.
    pub(crate) identity: Option<Identity>,
    /// Where it is published.
    pub(crate) address: SocketAddrV4,
    /// Whether it runs.
    pub(crate) state: ContainerState,
    /// How often it was started.
    pub(crate) starts: u32,
    /// Since when it answers or will; `None`: never in this run.
    pub(crate) answers: Option<Instant>,
    /// Answers only errors until then.
    pub(crate) sick_until: Option<Instant>,
    /// It turned sick while the table could not be written: the next one may send visitors to it,
    /// because what serves is decided and stays.
    pub(crate) sick_unwritten: bool,
    /// Something other than the agent ended it or made it sick.
    pub(crate) hurt: bool,
    /// It is stuck stopping until it is removed by force.
    pub(crate) stuck: bool,
    /// Podman says that it was killed for its memory.
    pub(crate) oom: bool,
    /// The agent's life that started it where an old table sent visitors to it already.
    pub(crate) exposed_by: Option<u32>,
    /// Names of the secrets that each start of it reads.
    pub(crate) reads: Vec<String>,
    /// Which one it is: a name may be used again.
    pub(crate) made: u64,
    /// The agent's life that started it; `None`: not started yet.
    pub(crate) started_by: Option<u32>,
    /// The kernel does not hold it to its limits in this run.
    pub(crate) unlimited: bool,
}

impl Boxed {
    /// What stands for its run in Podman's lists and in the kernel.
    pub(crate) fn process(&self) -> Option<Process> {
        let runs = self.state == ContainerState::Running;
        runs.then(|| Process { container: self.made.to_string(), pid: self.starts })
    }

    /// Whether a visitor gets an answer from it.
    pub(crate) fn answers(&self, now: Instant) -> bool {
        matches!(self.state, ContainerState::Running)
            && self.answers.is_some_and(|from| from <= now)
            && !self.is_sick(now)
    }

    fn is_sick(&self, now: Instant) -> bool {
        self.sick_until.is_some_and(|until| now < until)
    }

    /// What a probe of it sees while it runs and its host is well.
    pub(crate) fn probed(&self, now: Instant) -> ProbeOutcome {
        if self.answers(now) {
            ProbeOutcome::Healthy
        } else if self.is_sick(now) {
            ProbeOutcome::Unhealthy("status 503".to_owned())
        } else {
            ProbeOutcome::TimedOut("no answer".to_owned())
        }
    }
}

/// Podman's own state.
#[expect(clippy::struct_excessive_bools, reason = "what is wrong with it, each by itself")]
#[derive(Debug, Default)]
pub(crate) struct Engine {
    /// Containers by name.
    pub(crate) containers: BTreeMap<String, Boxed>,
    /// Containers whose last start was cut short: nothing forwards to them while they run.
    pub(crate) unforwarded: BTreeSet<String>,
    /// Orphans: running containers that Podman no longer knows, and the addresses that they hold.
    pub(crate) orphans: BTreeMap<String, Option<SocketAddrV4>>,
    /// Secrets by name.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Secrets that were stored after their sender could know.
    pub(crate) strays: BTreeSet<String>,
    /// The next write of secrets will be cut short.
    pub(crate) tears: bool,
    /// One was: nothing that needs a secret works until they are repaired.
    pub(crate) torn: bool,
    /// The disk for Podman's own state is full.
    pub(crate) crammed: bool,
    /// The host lacks a resource to create or start a container.
    pub(crate) short: bool,
    /// What is started has no limits, and Podman says nothing of it.
    pub(crate) unlimited: bool,
    /// How many containers were made.
    pub(crate) made: u64,
    /// Images that are here.
    pub(crate) images: BTreeSet<String>,
    /// The service carries out nothing until then.
    pub(crate) hung_until: Option<Instant>,
    /// The service is away until then.
    pub(crate) away_until: Option<Instant>,
    /// How often containers were listed.
    pub(crate) lists: u64,
    /// How often containers were listed, or one of them inspected.
    pub(crate) looks: u64,
}

impl Engine {
    /// Fails in Podman's words if secrets are torn.
    fn whole(&self, operation: &'static str) -> Result<(), ContainersError> {
        if self.torn {
            Err(fate::refused(operation, "unexpected end of JSON input"))
        } else {
            Ok(())
        }
    }

    /// Fails if the host lacks what a container takes.
    fn suffices(&self) -> Result<(), ContainersError> {
        let [code, cause, fix] =
            ["host_out_of_keys", "the app's host has no kernel keys left", "wait"];
        if self.short {
            return Err(ContainersError::Full(Failure {
                code: code.to_owned(),
                cause: cause.to_owned(),
                fix: fix.to_owned(),
            }));
        }
        Ok(())
    }
}

impl State {
    /// All containers, as Podman shows them now.
    fn listed(&mut self) -> Vec<Container> {
        let listed = self.engine.containers.iter().map(|(name, found)| Container {
            name: name.clone(),
            identity: found.identity,
            state: found.state,
            address: Some(found.address),
            process: found.process(),
        });
        let listed: Vec<_> = listed.collect();
        self.record(&listed);
        listed
    }

    /// A write of secrets begins; it may be cut short.
    fn write_secrets(&mut self, operation: &'static str) -> Result<(), ContainersError> {
        self.engine.whole(operation)?;
        if std::mem::take(&mut self.engine.tears) {
            self.engine.torn = true;
            self.hurt_all();
            self.say(|| "  secrets are torn".to_owned());
            return Err(fate::unavailable(operation));
        }
        Ok(())
    }
}

/// The tag of a revision's own image.
pub(crate) fn tag_of((id, revision): (DeploymentId, Revision)) -> String {
    format!("{}r{revision}", id.as_uuid().as_u128())
}

/// The bytes that an image's tag means.
pub(crate) fn digest_of_tag(tag: &str) -> Digest {
    let hash = tag.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
    Digest::parse(&format!("sha256:{hash:064x}")).expect("64 hex digits")
}

/// A container's name without what all of them share.
pub(crate) fn short(name: &str) -> String {
    name.replace("buddo-00000000-0000-0000-0000-", "c")
}

/// One life of the agent, as Podman sees it.
pub(crate) struct Life {
    /// The machine.
    pub(crate) world: Arc<World>,
    /// Its number.
    pub(crate) number: u32,
}
