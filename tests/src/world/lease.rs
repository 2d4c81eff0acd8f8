//! A world for one test: a number that no other test has, gone when the test ends.

use std::fs::{File, TryLockError};
use std::ops::Deref;

use anyhow::{Context as _, bail};

use super::{HIGHEST, World};

/// A world that goes down when it is dropped.
#[derive(Debug)]
pub struct Lease {
    world: World,
    /// Locked while the number is in use; the kernel unlocks it if the test is killed.
    _lock: File,
}

impl Lease {
    /// Takes the first free number from 1 on and starts that world from scratch.
    pub async fn new() -> anyhow::Result<Self> {
        for number in 1..=HIGHEST {
            let lock = lock_file(&number.to_string())?;
            match lock.try_lock() {
                Ok(()) => {
                    World::down(number)?;
                    return match World::up(number).await {
                        Ok(world) => Ok(Self { world, _lock: lock }),
                        Err(error) => {
                            World::down(number)?;
                            Err(error)
                        }
                    };
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        bail!("all {HIGHEST} worlds are in use")
    }
}

/// Locked while the one user of root's worlds is made or removed: `useradd` writes several files
/// one after the other.
pub(super) fn lock_user() -> anyhow::Result<File> {
    let file = lock_file("user")?;
    file.lock().context("cannot lock the worlds' user")?;
    Ok(file)
}

fn lock_file(name: &str) -> anyhow::Result<File> {
    let path = std::env::temp_dir().join(format!("buddo-world-{name}.lock"));
    let file = File::options().create(true).append(true).open(&path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

impl Deref for Lease {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Lease {
    /// Runs a test in its own world. If it fails, the ends of the world's logs are printed
    /// first; with `BUDDO_KEEP_WORLD` set the world then stays up for inspection.
    pub async fn run(test: impl AsyncFnOnce(&World) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let lease = Self::new().await?;
        let result = test(&lease).await;
        if result.is_err() {
            lease.print_logs();
            if std::env::var_os("BUDDO_KEEP_WORLD").is_some() {
                std::mem::forget(lease);
            }
        }
        result
    }

    #[expect(clippy::print_stderr, reason = "what a failed test shows; tests have no other output")]
    fn print_logs(&self) {
        for name in ["world", "coordinator", "agent", "resolver", "caddy", "podman"] {
            let path = self.world.layout().path(format!("log/{name}.log"));
            if let Ok(log) = std::fs::read_to_string(path) {
                let lines: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("──── {name}.log, its end");
                lines.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

impl Drop for Lease {
    #[expect(clippy::print_stderr, reason = "nobody else can be told")]
    fn drop(&mut self) {
        let number = self.world.layout().number();
        if let Err(error) = World::down(number) {
            eprintln!("world {number} did not go down: {error:#}");
        }
    }
}
