//! Administration commands, run alongside a serving coordinator.

pub mod accounts;
pub mod apps;
pub mod at_rest;
pub mod deployments;
pub mod rotation;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use buddo_runtime::clock::Clock;
use buddo_shared::model::id::HostId;
use clap::CommandFactory as _;
use jiff::Timestamp;

use crate::args::{Args, ClockCommand, HostCommand};
use crate::config::Config;
use crate::crypto::ca::HostCa;
use crate::crypto::random::Random;
use crate::service::admin as service;
use crate::service::clock::{self, Shown};
use crate::service::deployments::capacity;
use crate::service::hosts::epoch::{self, Raised};
use crate::service::hosts::join::{self, Invitation};
use crate::service::hosts::renewal;
use crate::store::contract::{Host, Lease, Load};
use crate::store::{Store, StoreError};

/// `host add`, `list`, `unlock`, `drain`, `undrain`, `evacuate` and `remove`.
pub async fn host(
    command: HostCommand,
    config: &Config,
    ca: &HostCa,
    clock: &dyn Clock,
    random: &dyn Random,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let store = Store::open(&config.database())?;
    match command {
        HostCommand::Add { name, max_memory_mb: most } => {
            let made = join::invite(&store, ca, random, clock.now(), &name, most).await?;
            print_token(&made, out)?;
            let again = if made.known { " again, replacing the current one" } else { "" };
            tracing::info!(
                "with this token a host joins as {name}{again}; it works once, until {:.0}",
                made.expires_at
            );
        }
        HostCommand::List => {
            let hosts = join::list_with_load(&store).await?;
            let leases: Result<_, StoreError> = store.read(|tables| tables.leases()).await;
            let mut lines = table(&hosts, clock.now(), config.hosts.certificate_life());
            name_holders(&mut lines[1..], &hosts, &leases?.into_iter().collect());
            for line in lines {
                writeln!(out, "{line}")?;
            }
        }
        HostCommand::Unlock { name } => {
            let made = join::unlock(&store, ca, random, clock.now(), &name).await?;
            print_token(&made, out)?;
            tracing::info!(
                "with this token the right copy of {name} joins again (buddo-agent join --force), \
                 and the other one is shut out; it works once, until {:.0}",
                made.expires_at
            );
        }
        HostCommand::Bound { name, max_memory_mb } => {
            service::bound(&accounts::admin_context(store, clock), &name, max_memory_mb).await?;
            let most = max_memory_mb.map_or_else(
                || "as much memory as it reports".to_owned(),
                |mb| format!("at most {mb} MB of memory"),
            );
            tracing::info!("{name} is trusted to have {most}");
        }
        HostCommand::Drain { name } => {
            service::drain(&accounts::admin_context(store, clock), &name).await?;
            tracing::info!("{name} gets no new deployments; those it has stay");
        }
        HostCommand::Undrain { name } => {
            service::undrain(&accounts::admin_context(store, clock), &name).await?;
            tracing::info!("{name} gets deployments again");
        }
        HostCommand::Evacuate { name } => {
            deployments::evacuate(&accounts::admin_context(store, clock), config, &name, out)
                .await?;
        }
        HostCommand::Remove { name } => {
            join::remove(&store, clock.now(), &name).await?;
            tracing::info!("{name} is no longer a host of this platform; switch its agent off");
        }
    }
    Ok(())
}

/// Prints only the token on standard output, so that a script can take it.
fn print_token(made: &Invitation, out: &mut (dyn Write + Send)) -> Result<()> {
    writeln!(out, "{}", made.token.to_text().expose()).context("cannot write to standard output")
}

/// `epoch raise`.
pub async fn raise_epoch(
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let store = Store::open(&config.database())?;
    let Raised { epoch, hosts } = epoch::raise(&store, clock.now()).await?;
    writeln!(out, "{epoch}")?;
    tracing::info!("the epoch is {epoch}; hosts that get a new document: {hosts}");
    Ok(())
}

/// `clock show` and `confirm`.
pub async fn clock(
    command: ClockCommand,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let store = Store::open(&config.database())?;
    let now = clock.now();
    let Shown { now, seen } = match command {
        ClockCommand::Show => clock::show(&store, now).await?,
        ClockCommand::Confirm => clock::confirm(&store, now).await?,
    };
    writeln!(out, "now  {now:.0}")?;
    match seen {
        Some(seen) => writeln!(out, "seen {seen:.0}")?,
        None => writeln!(out, "seen never")?,
    }
    match command {
        ClockCommand::Confirm => {
            tracing::info!("a running coordinator trusts this clock within seconds");
        }
        ClockCommand::Show => tracing::info!(
            "a running coordinator records the time each minute while it trusts its clock"
        ),
    }
    Ok(())
}

/// `ca show`.
pub fn show_ca(ca: &HostCa, out: &mut dyn Write) -> Result<()> {
    out.write_all(ca.bundle().concat().as_bytes()).context("cannot write to standard output")
}

/// `completions SHELL`.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Args::command(), "buddo-coordinator", out);
}

/// `man DIR`.
pub fn manual(directory: &Path) -> Result<()> {
    clap_mangen::generate_to(Args::command(), directory).with_context(|| {
        format!("cannot write manual pages to {}; name an existing folder", directory.display())
    })
}

/// Untrusted text: it must not move the cursor of the administrator's terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn table(hosts: &[(Host, Load)], now: Timestamp, life: Duration) -> Vec<String> {
    let head = format!(
        "{:<20} {:<38} {:<24} {:<16} {:<13} {}",
        "NAME", "ID", "ADDRESS", "DOCUMENT", "MEMORY (MB)", "STATE"
    );
    let rows = hosts.iter().map(|(host, load)| {
        let memory = host.status.as_ref().map_or_else(
            || "-".to_owned(),
            |_| format!("{}/{}", load.reserved_mb, capacity(host).believed_mb()),
        );
        let document = match host.acknowledged {
            Some(generation) if generation == host.wanted => generation.to_string(),
            Some(generation) => format!("{generation}<{}", host.wanted),
            None => format!("-<{}", host.wanted),
        };
        format!(
            "{:<20} {:<38} {:<24} {document:<16} {memory:<13} {}",
            host.name,
            host.id.to_string(),
            host.address,
            state(host, now, life)
        )
    });
    std::iter::once(head).chain(rows).collect()
}

/// Where there are several coordinators, says which of them pushes to each host.
fn name_holders(lines: &mut [String], hosts: &[(Host, Load)], leases: &HashMap<HostId, Lease>) {
    let mut holders = leases.values().map(|lease| lease.holder);
    let first = holders.next();
    if holders.all(|holder| Some(holder) == first) {
        return;
    }
    for (line, (host, _)) in lines.iter_mut().zip(hosts) {
        let _ = match leases.get(&host.id) {
            Some(lease) => write!(line, "; pushed to by coordinator {}", lease.holder),
            None => write!(line, "; no coordinator pushes to it"),
        };
    }
}

fn state(host: &Host, now: Timestamp, life: Duration) -> String {
    if let Err(unserved) = renewal::is_served(host) {
        return format!("LOCKED: {unserved}");
    }
    let mut words = match (host.unreachable_since, host.last_seen) {
        (Some(since), _) => {
            let seconds = now.duration_since(since).as_secs().max(0);
            format!("unreachable since {since:.0} ({seconds} s)")
        }
        (None, Some(_)) => "reachable".to_owned(),
        (None, None) => "joined, not yet reached".to_owned(),
    };
    if host.identity.drained_at.is_some() {
        words.push_str("; drained: it gets no new deployments");
    }
    if host.status.as_ref().is_some_and(|status| status.stale) {
        words.push_str("; the document that it holds has expired");
    }
    if let Some(issued) = &host.identity.certificate
        && renewal::is_short(host, now, life)
    {
        let past = if issued.expires_at <= now { "expired" } else { "expires" };
        let _ = write!(words, "; its certificate {past} at {:.0}", issued.expires_at);
    }
    let warnings = host.status.iter().flat_map(|status| &status.warnings);
    let own = join::doubts(host);
    for more in host.refusal.iter().chain(&own).chain(warnings) {
        words.push_str("; ");
        // Text from a host: it must not move the cursor of the administrator's terminal.
        words.extend(more.chars().filter(|c| !c.is_control()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    const MONTH: Duration = Duration::from_hours(720);

    #[tokio::test]
    async fn a_refusal_is_listed_with_its_remedy_and_no_control_characters() {
        let world = World::new();
        let (id, _) = world.host(1, 4096).await;
        let why = "stale_generation: \u{1b}[2Jolder: run `buddo-coordinator epoch raise`";
        let noted: Result<(), StoreError> =
            world.state.store.write(move |tables| tables.set_refusal(id, why)).await;
        noted.unwrap();
        let lines = join::list_with_load(&world.state.store).await.unwrap();
        let lines = table(&lines, world.clock.now(), MONTH);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("container-host-1"), "{lines:?}");
        assert!(lines[1].contains("run `buddo-coordinator epoch raise`"), "{lines:?}");
        assert!(!lines[1].contains('\u{1b}'));
    }

    #[tokio::test]
    async fn of_several_coordinators_the_list_says_which_pushes() {
        let world = World::new();
        let ((one, _), (other, _)) = (world.host(1, 4096).await, world.host(2, 4096).await);
        let (config, ca) = (&world.state.config, &world.state.ca);
        let random = crate::crypto::random::SystemRandom;
        let listed = async || {
            let mut out = Vec::new();
            let list = HostCommand::List;
            host(list, config, ca, &*world.clock, &random, &mut out).await.unwrap();
            String::from_utf8(out).unwrap()
        };
        let take = async |host, holder| {
            let (holder, ttl) = (uuid::Uuid::from_u128(holder), Duration::from_mins(10));
            let taken: Result<Lease, StoreError> = world
                .state
                .store
                .write(move |tables| tables.acquire_lease(host, holder, ttl))
                .await;
            taken.unwrap();
        };
        take(one, 7).await;
        assert!(!listed().await.contains("coordinator"), "there is only one");
        take(other, 8).await;
        let lines = listed().await;
        assert!(lines.contains("pushed to by coordinator 00000000-0000-0000-0000-000000000007"));
        assert!(lines.contains("pushed to by coordinator 00000000-0000-0000-0000-000000000008"));
    }

    #[tokio::test]
    async fn fm_36_an_expired_document_is_listed_with_its_host() {
        let world = World::new();
        let (id, _) = world.host(1, 4096).await;
        let listed = async || {
            let lines = join::list_with_load(&world.state.store).await.unwrap();
            table(&lines, world.clock.now(), MONTH).remove(1)
        };
        assert!(!listed().await.contains("expired"));
        let status = join::list(&world.state.store).await.unwrap()[0].status.clone().unwrap();
        let stale = buddo_shared::host_wire::report::HostStatus { stale: true, ..status };
        let noted: Result<(), StoreError> =
            world.state.store.write(move |tables| tables.set_host_status(id, &stale)).await;
        noted.unwrap();
        assert!(listed().await.contains("the document that it holds has expired"));
    }

    #[tokio::test]
    async fn fm_67_excess_claims_and_cut_offs_are_listed_with_their_host() {
        let world = World::new();
        let (id, _) = world.host(1, 4096).await;
        let bound =
            HostCommand::Bound { name: "container-host-1".to_owned(), max_memory_mb: Some(2048) };
        let (config, ca) = (&world.state.config, &world.state.ca);
        let random = crate::crypto::random::SystemRandom;
        host(bound, config, ca, &*world.clock, &random, &mut Vec::new()).await.unwrap();
        let now = world.clock.now();
        let noted: Result<(), StoreError> =
            world.state.store.write(move |tables| tables.set_flooded(id, now)).await;
        noted.unwrap();
        let lines = join::list_with_load(&world.state.store).await.unwrap();
        let line = table(&lines, now, MONTH).remove(1);
        assert!(line.contains("0/2048"), "{line}");
        assert!(line.contains("it claims 4096 MB of memory, of which 2048 are believed"), "{line}");
        assert!(line.contains("it was cut off at 2026-05-21T10:00:00Z"), "{line}");
    }
}
