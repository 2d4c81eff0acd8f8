//! Keeps this process's memory off the disk: it holds keys and opened secrets.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Core dumps cannot be disabled.
#[derive(Debug, thiserror::Error)]
#[error("cannot disable core dumps of this process")]
pub struct CoreDumpError(#[from] nix::Error);

/// Disables core dumps for good, and lets only root read this process's memory.
///
/// The limit alone is not enough: if `kernel.core_pattern` names a program (as `systemd-coredump`
/// does), the kernel pipes the memory to it in spite of a limit of 0 (`core(5)`). A process that is
/// not dumpable is never dumped (`PR_SET_DUMPABLE(2const)`). The limit is for child processes,
/// which inherit it.
pub fn forbid() -> Result<(), CoreDumpError> {
    set_dumpable(false)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}
