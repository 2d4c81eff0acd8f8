//! `master-key`, `audit`, `backup` and `restore`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use buddo_runtime::clock::Clock;

use crate::args::{AuditCommand, MasterKeyCommand, Restore};
use crate::config::Config;
use crate::crypto::random::Random;
use crate::crypto::vault::Vault;
use crate::service::audit_chain::{self, Checked, Noted};
use crate::service::backup::{self, Restored, Wanted};
use crate::service::master_key::{Rotation, Step};
use crate::store::contract::{AdminActRow, AuditChainState, Break};
use crate::store::{Store, StoreError};

/// `master-key status` and `rotate`.
pub async fn master_key(
    command: MasterKeyCommand,
    config: &Config,
    clock: &dyn Clock,
    random: &dyn Random,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let vault = Arc::new(Vault::open_existing(&config.master_key())?);
    match command {
        MasterKeyCommand::Status => {
            writeln!(out, "{} encrypts", vault.key_id())?;
            if let Some(old) = vault.old_key_id() {
                writeln!(
                    out,
                    "{old} old: run `buddo-coordinator master-key rotate` to finish the rotation"
                )?;
            }
            Ok(())
        }
        MasterKeyCommand::Rotate => {
            let store = Store::open(&config.database())?;
            let mut rotation = Rotation::new(store, Arc::clone(&vault), &config.state_dir)?;
            if rotation.is_resumed() {
                tracing::info!("resuming an interrupted rotation");
            }
            let mut renewed = 0;
            loop {
                match rotation.step(random, clock.now()).await? {
                    Step::Began => tracing::info!("{} is now the encrypting key", vault.key_id()),
                    Step::Renewed(some) => renewed += some,
                    Step::Noted => {}
                    Step::Ended => break,
                }
            }
            writeln!(out, "{}", vault.key_id())?;
            tracing::info!(
                "{renewed} secrets are encrypted with the new key, and the old one is gone. Back \
                 up master.key now; older database backups need a copy of the old one"
            );
            Ok(())
        }
    }
}

/// `audit verify` and `list`.
pub async fn audit(
    command: AuditCommand,
    config: &Config,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    match command {
        AuditCommand::Verify { expect } => {
            let mut expected = Vec::new();
            for text in &expect {
                match text.parse::<Noted>() {
                    Ok(Noted(link)) => expected.push(link),
                    Err(error) => bail!("--expect {text:?} {error}"),
                }
            }
            let store = Store::open(&config.database())?;
            report(&audit_chain::verify(&store, expected).await?, out)
        }
        AuditCommand::List { limit } => {
            let store = Store::open(&config.database())?;
            let acts: Result<Vec<AdminActRow>, StoreError> =
                store.read(move |tables| tables.admin_acts(None, limit)).await;
            for act in acts? {
                let actor = act.actor.as_deref().unwrap_or("-");
                let details = super::printable(&act.details.to_string());
                writeln!(out, "{:.0} {:<20} by {actor} {details}", act.at, act.action)?;
            }
            Ok(())
        }
    }
}

fn report(checked: &Checked, out: &mut (dyn Write + Send)) -> Result<()> {
    match &checked.state {
        AuditChainState::Broken(Break { link, entry, what }) => {
            let entry = entry.as_ref().map(|(log, seq)| format!(" ({log}, entry {seq})"));
            bail!(
                "the audit logs were modified externally: link {link}{}: {what}. Compare with an \
                 earlier backup; do not rely on later entries",
                entry.unwrap_or_default()
            )
        }
        AuditChainState::Whole { anchor, head } => {
            if let Some(unmet) = checked.unmet {
                bail!(
                    "the audit logs are consistent, but not the expected ones: link {} is not \
                     {}. Was a backup restored since (`buddo-coordinator audit list`)?",
                    unmet.seq,
                    Noted(unmet)
                );
            }
            writeln!(out, "{}", Noted(*head))?;
            tracing::info!(
                "all {} entries are unchanged; {} older ones were deleted because of their age. \
                 Keep the line above elsewhere, for --expect",
                head.seq - anchor.seq,
                anchor.seq
            );
            Ok(())
        }
    }
}

/// `backup FILE`.
pub async fn backup(
    file: &Path,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let head = backup::back_up(&config.database(), file, clock.now()).await?;
    writeln!(out, "{}", Noted(head))?;
    tracing::info!(
        "{} is a complete backup of the database, up to this link of its audit chain. It does not \
         contain the keys: back them up separately, once and after each rotation",
        file.display()
    );
    Ok(())
}

/// `restore FILE`.
pub fn restore(
    restore: &Restore,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let Restored { raised, audit_chain, aside } = backup::restore(
        &Wanted {
            from: &restore.file,
            database: &config.database(),
            master_key: &config.master_key(),
            old_master_key: restore.master_key.as_deref(),
            force: restore.force,
            keep_sessions: restore.keep_sessions,
        },
        clock.now(),
    )?;
    writeln!(out, "{}", raised.epoch)?;
    if let AuditChainState::Broken(Break { link, what, .. }) = audit_chain {
        tracing::warn!("the audit chain of the backup is broken: link {link}: {what}");
    }
    if let Some(aside) = aside {
        tracing::info!("the previous database is kept as {}", aside.display());
    }
    tracing::info!(
        "restored; the epoch is {}, so that hosts ({}) accept new documents. Start the coordinator",
        raised.epoch,
        raised.hosts
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRandom;
    use crate::testing::World;

    async fn verify(world: &World, expect: &[&str]) -> Result<String> {
        let expect = expect.iter().map(|text| (*text).to_owned()).collect();
        let mut out = Vec::new();
        audit(AuditCommand::Verify { expect }, &world.state.config, &mut out).await?;
        Ok(String::from_utf8(out)?.trim().to_owned())
    }

    #[tokio::test]
    async fn verify_names_the_first_changed_entry() {
        let world = World::new();
        world.member("one").await;
        let head = verify(&world, &[]).await.unwrap();
        world.log_in("one").await;
        verify(&world, &[&head]).await.unwrap();
        assert!(verify(&world, &["1:00"]).await.is_err());
        let other = format!("1:{}", "0".repeat(64));
        let unmet = verify(&world, &[&other]).await.unwrap_err();
        assert!(unmet.to_string().contains("not the expected ones: link 1"), "{unmet}");
        let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
        database
            .execute_batch(
                "DROP TRIGGER account_audit_is_never_edited;
                 UPDATE account_audit SET action = 'nothing' WHERE seq = 2;",
            )
            .unwrap();
        let broken = verify(&world, &[]).await.unwrap_err().to_string();
        assert!(broken.contains("link 2 (account_audit, entry 2)"), "{broken}");
    }

    /// As docs/operations.md describes for a database that a restore replaced: there are no keys,
    /// and part of the data is still in the WAL.
    #[tokio::test]
    async fn audit_lists_actions_from_a_database_copy_without_its_keys() {
        let world = World::new();
        let config = &world.state.config;
        let file = config.state_dir.join("backup.db");
        backup(&file, config, &*world.clock, &mut Vec::new()).await.unwrap();
        let before = tempfile::tempdir().unwrap();
        for end in ["", "-wal"] {
            let from = format!("{}{end}", config.database().display());
            std::fs::copy(from, before.path().join(format!("coordinator.db{end}"))).unwrap();
        }
        let text = format!("state_dir = {:?}\n", before.path());
        let path = before.path().join("coordinator.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path).unwrap();
        let mut out = Vec::new();
        audit(AuditCommand::List { limit: 9 }, &config, &mut out).await.unwrap();
        assert!(String::from_utf8(out).unwrap().contains("backup"));
    }

    #[tokio::test]
    async fn rotates_the_master_key_and_backs_up_the_database() {
        let world = World::new();
        world.member("one").await;
        let config = &world.state.config;
        let run = async |command| {
            let mut out = Vec::new();
            let clock = &*world.clock;
            master_key(command, config, clock, &SystemRandom, &mut out).await.unwrap();
            String::from_utf8(out).unwrap()
        };
        let before = run(MasterKeyCommand::Status).await;
        let key = run(MasterKeyCommand::Rotate).await;
        assert!(!before.contains(key.trim()));
        assert_eq!(run(MasterKeyCommand::Status).await, format!("{} encrypts\n", key.trim()));
        let file = config.state_dir.join("backup.db");
        let mut out = Vec::new();
        backup(&file, config, &*world.clock, &mut out).await.unwrap();
        let head = String::from_utf8(out).unwrap();
        verify(&world, &[head.trim()]).await.unwrap();
        let mut out = Vec::new();
        audit(AuditCommand::List { limit: 9 }, config, &mut out).await.unwrap();
        let list = String::from_utf8(out).unwrap();
        assert!(list.contains("backup") && list.contains("master_key_rotate"), "{list}");
        let restore = Restore { file, force: true, master_key: None, keep_sessions: false };
        let refused = super::restore(&restore, config, &*world.clock, &mut Vec::new());
        assert!(refused.unwrap_err().to_string().contains("stop it first"));
    }
}
