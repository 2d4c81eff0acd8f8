//! What the agent may ask of Podman, and of containers through their ports.

use std::future::pending;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use buddo_agent::model::cgroup::{Cgroup, CgroupCounts, CgroupLimits};
use buddo_agent::model::container::{
    Container, ContainerSpec, ContainerState, Created, ExitInfo, Identity, Mended, Process, Slot,
};
use buddo_agent::model::health::ProbeOutcome;
use buddo_agent::model::workload::{WorkloadId, container_owner, secret_owner};
use buddo_agent::ports::{Cgroups, Containers, ContainersError, Look, Prober};
use buddo_shared::host_wire::manifest::RegistryCredentials;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use tokio::time::{Instant, sleep};

use super::fate::unavailable;
use super::{Boxed, Life, digest_of_tag, tag_of};
use crate::podman::short;
use crate::story::app::Registry;

/// As strict as any tier.
const STRICT: CgroupLimits =
    CgroupLimits { memory: Some(1), swap: Some(0), cpu_millicores: Some(1), pids: Some(1) };

const SECONDS_10: Duration = Duration::from_secs(10);

impl Containers for Life {
    async fn list(&self) -> Result<Vec<Container>, ContainersError> {
        self.call("list", "", SECONDS_10, |state, _, _| Ok(state.listed())).await
    }

    async fn inspect(&self, name: &str) -> Result<Option<Container>, ContainersError> {
        let wanted = name.to_owned();
        self.call("inspect", name, SECONDS_10, move |state, _, _| {
            Ok(state.listed().into_iter().find(|found| found.name == wanted))
        })
        .await
    }

    async fn image(&self, image: &ImageReference) -> Result<Option<Digest>, ContainersError> {
        let (text, digest) = (image.to_string(), image.digest().cloned());
        self.call("look for an image", "", SECONDS_10, move |state, _, _| {
            Ok(digest.filter(|_| state.engine.images.contains(&text)))
        })
        .await
    }

    async fn pull(
        &self,
        image: &ImageReference,
        _: Option<&RegistryCredentials>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<Digest, ContainersError> {
        progress(0);
        let digest = image.digest().cloned();
        let digest = digest.unwrap_or_else(|| digest_of_tag(image.tag().unwrap_or_default()));
        let pinned = image.pinned(&digest).to_string();
        let meant = digest.clone();
        let words = |code: &str| Failure {
            code: code.to_owned(),
            cause: code.to_owned(),
            fix: String::new(),
        };
        let answer = self.call("pull", "", Duration::from_mins(1), move |state, _, _| {
            let key = state.apps.keys().find(|key| digest_of_tag(&tag_of(**key)) == meant).copied();
            let Some(key) = key else {
                state.engine.images.insert(pinned);
                return Ok(Ok(()));
            };
            let Some((_, registry)) = state.apps.get_mut(&key) else { return Ok(Ok(())) };
            let (now, next) = match *registry {
                Registry::Vanishes => return Ok(Ok(())),
                Registry::Lacks => {
                    (Err(ContainersError::Image(words("image_not_found"))), Registry::Lacks)
                }
                Registry::Has | Registry::Busy(0) | Registry::Stalls(0) => {
                    (Ok(Ok(())), Registry::Has)
                }
                Registry::Busy(n) => {
                    (Err(ContainersError::Registry(words("busy"))), Registry::Busy(n - 1))
                }
                Registry::Stalls(n) => (Ok(Err(())), Registry::Stalls(n - 1)),
            };
            *registry = next;
            if next != Registry::Has {
                state.hurt.insert(key);
            }
            if matches!(now, Ok(Ok(()))) {
                state.engine.images.insert(pinned);
            }
            now
        });
        if answer.await?.is_err() {
            sleep(Duration::from_secs(30)).await;
            return self.back(Err(ContainersError::Registry(words("no_progress")))).await;
        }
        progress(100);
        Ok(digest)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainersError> {
        let wanted = spec.clone();
        let deadline = Duration::from_secs(30);
        self.world.act(|state| state.makes(self.number, spec.identity));
        self.call("create", &spec.name, deadline, move |state, world, late| {
            state.engine.suffices()?;
            state.create(world, &wanted, late)
        })
        .await
    }

    async fn start(&self, name: &str) -> Result<(), ContainersError> {
        let wanted = name.to_owned();
        let (deadline, life) = (Duration::from_secs(30), self.number);
        self.call("start", name, deadline, move |state, world, _| {
            state.engine.suffices()?;
            state.start(world, &wanted, life)
        })
        .await
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<bool, ContainersError> {
        let wanted = name.to_owned();
        let deadline = grace + Duration::from_secs(15);
        let begun = self.call("stop", name, deadline, move |state, world, late| {
            let known = state.engine.containers.contains_key(&wanted);
            Ok((known, state.begin_stop(world, &wanted, late)))
        });
        let (known, takes) = begun.await?;
        let Some(takes) = takes else { return Ok(known) };
        sleep(takes.min(deadline)).await;
        let result = if takes > deadline { Err(unavailable("stop")) } else { Ok(true) };
        self.back(result).await
    }

    async fn remove(&self, name: &str) -> Result<bool, ContainersError> {
        let wanted = name.to_owned();
        let deadline = Duration::from_secs(30);
        self.call("remove", name, deadline, move |state, world, late| {
            Ok(state.remove(world, &wanted, late))
        })
        .await
    }

    async fn orphans(&self) -> Result<Vec<Identity>, ContainersError> {
        self.call("find orphans", "", SECONDS_10, move |state, _, _| {
            Ok(state.engine.orphans.keys().filter_map(|name| container_owner(name)).collect())
        })
        .await
    }

    async fn end_orphans(
        &self,
        workload: WorkloadId,
        slot: Slot,
        _: Duration,
    ) -> Result<(), ContainersError> {
        self.call("end orphans", "", SECONDS_10, move |state, _, _| {
            let meant = |i: Identity| (i.workload, i.slot) == (workload, slot);
            state.engine.orphans.retain(|name, _| !container_owner(name).is_some_and(meant));
            Ok(())
        })
        .await
    }

    async fn free_address(&self, address: SocketAddrV4) -> Result<(), ContainersError> {
        self.call("free an address", "", SECONDS_10, move |state, _, _| {
            for held in state.engine.orphans.values_mut() {
                held.take_if(|held| *held == address);
            }
            Ok(())
        })
        .await
    }

    async fn inspect_exit(&self, name: &str) -> Result<ExitInfo, ContainersError> {
        let wanted = name.to_owned();
        self.call("inspect an exit", name, SECONDS_10, move |state, _, _| {
            let Some(found) = state.engine.containers.get(&wanted) else {
                return Err(ContainersError::NotFound(wanted));
            };
            let exit_code = match found.state {
                ContainerState::Exited(code) => code,
                _ => 0,
            };
            Ok(ExitInfo { exit_code, oom_killed: found.oom, log_tail: String::new() })
        })
        .await
    }

    async fn secrets(&self) -> Result<Vec<String>, ContainersError> {
        self.call("list secrets", "", SECONDS_10, |state, _, _| {
            state.engine.whole("list secrets")?;
            Ok(state.engine.secrets.keys().cloned().collect())
        })
        .await
    }

    async fn put_secret(&self, name: &str, value: &Secret) -> Result<(), ContainersError> {
        let (wanted, value) = (name.to_owned(), value.expose().to_owned());
        self.call("put the secret", name, SECONDS_10, move |state, _, late| {
            state.write_secrets("store a secret")?;
            if late {
                // The agent may have tidied up meanwhile; its next life finds such a one.
                state.engine.strays.insert(wanted.clone());
            }
            state.engine.secrets.entry(wanted).or_insert(value);
            Ok(())
        })
        .await
    }

    async fn remove_secret(&self, name: &str) -> Result<(), ContainersError> {
        let wanted = name.to_owned();
        self.call("remove the secret", name, SECONDS_10, move |state, _, late| {
            state.write_secrets("remove a secret")?;
            let used = secret_owner(&wanted).is_some_and(|(id, revision)| {
                let mut all = state.engine.containers.values().filter_map(|c| c.identity);
                all.any(|i| i.workload == id && i.revision == revision)
            });
            if used && !late {
                state.violate(format!("{} is removed and in use", short(&wanted)));
            }
            state.engine.secrets.remove(&wanted);
            Ok(())
        })
        .await
    }

    async fn mend_secrets(&self) -> io::Result<Mended> {
        let mended = self.call("mend the secrets", "", SECONDS_10, |state, _, _| {
            if state.disk_full || state.engine.crammed {
                return Ok(Err(io::Error::from(io::ErrorKind::StorageFull)));
            }
            let changed = std::mem::take(&mut state.engine.torn);
            if changed {
                state.engine.secrets.clear();
            }
            Ok(Ok(Mended { changed, aside: Vec::new() }))
        });
        mended.await.map_err(io::Error::other)?
    }
}

impl Cgroups for Life {
    fn limits(&self, process: &Process) -> Look<Cgroup> {
        let (world, life, process) = (Arc::clone(&self.world), self.number, process.clone());
        Box::pin(async move {
            sleep(Duration::from_millis(1)).await;
            if !world.is_alive(life) {
                return pending().await;
            }
            world.with(|state| {
                let mut containers = state.engine.containers.values();
                let found = containers.find(|c| c.process().as_ref() == Some(&process));
                found.map_or(Cgroup::Gone, |found| {
                    if found.unlimited { Cgroup::Shared } else { Cgroup::Own(STRICT) }
                })
            })
        })
    }

    fn counts(&self, processes: Vec<Process>) -> Look<Vec<Option<CgroupCounts>>> {
        Box::pin(async move { processes.iter().map(|_| None).collect() })
    }
}

impl Prober for Life {
    async fn probe(&self, address: SocketAddrV4, probe: &Probe) -> ProbeOutcome {
        let latency = self.world.with(|state| state.rng.ms(1, 4));
        sleep(latency).await;
        if !self.world.is_alive(self.number) {
            return pending().await;
        }
        let outcome = self.world.with(|state| {
            let engine = &state.engine;
            let reached = |(name, c): &(&String, &Boxed)| {
                let runs = c.state == ContainerState::Running;
                runs && c.address == address && !engine.unforwarded.contains(*name)
            };
            let now = Instant::now();
            let found = engine.containers.iter().find(reached).map(|(_, c)| c);
            let (identity, outcome) = found.map(|c| (c.identity, c.probed(now))).unzip();
            let starved = state.starved_until.is_some_and(|until| now < until);
            if let Some(identity) = identity.flatten().filter(|_| starved) {
                state.starve(identity);
            }
            let late = || ProbeOutcome::TimedOut("no answer".to_owned());
            outcome.map(|outcome| if starved { late() } else { outcome })
        });
        match outcome {
            Some(late @ ProbeOutcome::TimedOut(_)) => {
                sleep(Duration::from_millis(u64::from(probe.timeout_ms))).await;
                self.back(late).await
            }
            Some(prompt) => prompt,
            None => ProbeOutcome::Unreachable,
        }
    }
}
