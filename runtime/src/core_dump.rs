//! No memory of this process reaches a disk: it holds keys and opened
//! secrets.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Core dumps cannot be ruled out.
#[derive(Debug, thiserror::Error)]
#[error("core dumps of this process cannot be ruled out")]
pub struct CoreDumpError(#[from] nix::Error);

/// Rules core dumps out for good, and lets nobody but root look into this process's memory.
///
/// The limit alone is not enough: where `kernel.core_pattern` names a program (as `systemd-coredump`
/// does) the kernel hands it the memory in spite of a limit of 0 (`core(5)`). A process that is not
/// dumpable is never dumped (`PR_SET_DUMPABLE(2const)`). The limit is what children inherit.
pub fn forbid() -> Result<(), CoreDumpError> {
    set_dumpable(false)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}
