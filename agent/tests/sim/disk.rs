//! The database's disk: full, failing, or well, and power losses.

use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use buddo_agent::adapters::store::Disk;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, ffi};
use tokio::time::sleep;

use crate::world::World;

/// A database that outlives the agent; clones are the same one.
#[derive(Clone)]
pub(crate) struct Database(Arc<Kept>);

struct Kept {
    connection: Mutex<Connection>,
    /// The file, and the folder that holds it as it was last synced.
    file: Option<(PathBuf, PathBuf)>,
}

impl Database {
    /// In memory: what is committed is kept, whatever its synchronous mode.
    pub(crate) fn in_memory() -> Self {
        let connection = Connection::open_in_memory().expect("memory");
        Self(Arc::new(Kept { connection: Mutex::new(connection), file: None }))
    }

    /// In a file of `folder`: [`lose_power`](Self::lose_power) takes away what SQLite did not sync.
    pub(crate) fn in_file(folder: &std::path::Path) -> Self {
        let (file, synced) = (folder.join("agent.db"), folder.join("synced"));
        std::fs::create_dir_all(&synced).expect("a folder");
        let connection = Connection::open(&file).expect("a file");
        Self(Arc::new(Kept { connection: Mutex::new(connection), file: Some((file, synced)) }))
    }

    /// The database as it is after a power loss. Its folder must not be used by another.
    pub(crate) fn lose_power(self) -> Self {
        let Some((file, synced)) = self.0.file.clone() else { return self };
        let folder = file.parent().expect("a folder").to_owned();
        drop(self);
        let after = folder.join("after-power-loss");
        std::fs::create_dir_all(&after).expect("a folder");
        copy(&synced, &after);
        Self::in_file(&after)
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for name in ["agent.db", "agent.db-wal"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}

/// The agent's way to it.
pub(crate) struct SimDisk {
    /// The machine.
    pub(crate) world: Arc<World>,
    /// Which agent.
    pub(crate) life: u32,
    /// The database.
    pub(crate) database: Database,
}

fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

fn writes(operation: &str) -> bool {
    !operation.starts_with("read")
}

impl Disk for SimDisk {
    fn connection(&self) -> &Mutex<Connection> {
        &self.database.0.connection
    }

    fn before(&self, operation: &'static str) -> BoxFuture<'_, rusqlite::Result<()>> {
        Box::pin(async move {
            let (latency, fails, kill) = self.world.with(|state| {
                let (swarm, rng) = (state.swarm, &mut state.rng);
                let writes = writes(operation);
                let latency = writes.then(|| rng.ms(0, swarm.slow.min(50)));
                let fails = writes && (rng.per_mille(swarm.fail_write) || state.disk_full);
                (latency, fails, writes && state.rng.per_mille(swarm.kill_before))
            });
            if let Some(latency) = latency {
                sleep(latency).await;
            }
            if !self.world.is_alive(self.life) {
                return pending().await;
            }
            if kill {
                self.world.act(|state| {
                    state.say(|| format!("  before it could {operation}:"));
                    state.kill();
                });
                return pending().await;
            }
            if fails {
                self.world.with(|state| state.say(|| format!("  no room to {operation}")));
                return Err(failure(ffi::SQLITE_FULL));
            }
            Ok(())
        })
    }

    fn after(&self, operation: &'static str) -> BoxFuture<'_, rusqlite::Result<()>> {
        Box::pin(async move {
            if !writes(operation) {
                return Ok(());
            }
            self.sync();
            let (unsure, kill) = self.world.with(|state| {
                state.commits += 1;
                state.say(|| format!("  {operation}"));
                let (swarm, rng) = (state.swarm, &mut state.rng);
                (rng.per_mille(swarm.fail_write / 4), rng.per_mille(swarm.kill_after))
            });
            if kill {
                self.world.act(crate::world::State::kill);
                return pending().await;
            }
            if unsure {
                // It is on disk, and SQLite could not tell.
                return Err(failure(ffi::SQLITE_IOERR_FSYNC));
            }
            Ok(())
        })
    }
}

impl SimDisk {
    /// Keeps what a power loss does not take: all, where SQLite syncs each commit (in WAL mode
    /// with `synchronous` FULL or EXTRA); otherwise nothing since the last checkpoint.
    fn sync(&self) {
        let Some((file, synced)) = &self.database.0.file else { return };
        let connection = self.database.0.connection.lock().expect("not poisoned");
        let mode: i64 =
            connection.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("a mode");
        if mode >= 2 {
            copy(file.parent().expect("a folder"), synced);
        }
    }
}
