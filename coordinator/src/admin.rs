//! Commands for the administrator, run beside a serving coordinator.

use std::io::Write;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use jiff::Timestamp;

use crate::args::{Args, HostCommand};
use crate::ca::HostCa;
use crate::clock::Clock;
use crate::config::Config;
use crate::random::Random;
use crate::service::epoch::{self, Raised};
use crate::service::hosts;
use crate::store::Store;
use crate::store::contract::{Host, Load};

/// `host add` and `host list`.
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
        HostCommand::Add { name } => {
            let made = hosts::invite(&store, ca, random, clock.now(), &name).await?;
            // The token alone on standard output, so that a script can take it.
            writeln!(out, "{}", made.token.to_text().expose())?;
            let again = if made.known { " again, in the place of the one that has" } else { "" };
            tracing::info!(
                "with this token a host joins as {name}{again}; it works once, until {:.0}",
                made.expires_at
            );
        }
        HostCommand::List => {
            for line in table(&hosts::list_with_load(&store).await?, clock.now()) {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(())
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

/// `ca show`.
pub fn show_ca(ca: &HostCa, out: &mut dyn Write) -> Result<()> {
    out.write_all(ca.pem().as_bytes()).context("cannot write to standard output")
}

/// `completions SHELL`.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Args::command(), "buddo-coordinator", out);
}

fn table(hosts: &[(Host, Load)], now: Timestamp) -> Vec<String> {
    let head = format!(
        "{:<20} {:<38} {:<24} {:<16} {:<13} {}",
        "NAME", "ID", "ADDRESS", "DOCUMENT", "MEMORY (MB)", "STATE"
    );
    let rows = hosts.iter().map(|(host, load)| {
        let memory = host.status.as_ref().map_or_else(
            || "-".to_owned(),
            |status| format!("{}/{}", load.reserved_mb, status.memory_mb),
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
            state(host, now)
        )
    });
    std::iter::once(head).chain(rows).collect()
}

fn state(host: &Host, now: Timestamp) -> String {
    let mut words = match (host.unreachable_since, host.last_seen) {
        (Some(since), _) => {
            let seconds = now.duration_since(since).as_secs().max(0);
            format!("unreachable since {since:.0} ({seconds} s)")
        }
        (None, Some(_)) => "reachable".to_owned(),
        (None, None) => "joined, not yet reached".to_owned(),
    };
    let warnings = host.status.iter().flat_map(|status| &status.warnings);
    for more in host.refusal.iter().chain(warnings) {
        words.push_str("; ");
        // A host's words: they must not move the cursor of the administrator's terminal.
        words.extend(more.chars().filter(|c| !c.is_control()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use crate::testing::World;

    #[tokio::test]
    async fn a_host_that_refuses_is_listed_with_what_to_do_and_moves_no_cursor() {
        let world = World::new();
        let (id, _) = world.host(1, 4096).await;
        let why = "stale_generation: \u{1b}[2Jolder: run `buddo-coordinator epoch raise`";
        let noted: Result<(), StoreError> =
            world.state.store.write(move |tables| tables.set_refusal(id, why)).await;
        noted.unwrap();
        let lines = hosts::list_with_load(&world.state.store).await.unwrap();
        let lines = table(&lines, world.clock.now());
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("container-host-1"), "{lines:?}");
        assert!(lines[1].contains("run `buddo-coordinator epoch raise`"), "{lines:?}");
        assert!(!lines[1].contains('\u{1b}'));
    }
}
