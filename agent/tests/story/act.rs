//! What operators do: create, deploy, restart, stop, start, suspend, destroy, name a domain.

use buddo_shared::host_wire::manifest::RunState;

use super::rng::Rng;

/// One act on one app. Any act creates an app that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// A new image; stop-first from now on, or by the previous strategy.
    Deploy {
        /// Stop-first.
        recreate: bool,
    },
    #[allow(dead_code, reason = "drawn by the simulation alone")]
    /// A new image for the public service alone, or for all others.
    Part {
        /// The public one.
        public: bool,
    },
    /// The same image as a new revision.
    Restart,
    /// Stop, suspend or start it.
    Run(RunState),
    /// A name of its own.
    Name,
    /// Away with it.
    Destroy,
}

impl Act {
    /// One of them.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..4 => Self::Deploy { recreate: rng.per_mille(250) },
            4 => Self::Restart,
            5 => Self::Run(RunState::Stopped),
            6 => Self::Run(RunState::Suspended),
            7 => Self::Run(RunState::Running),
            8 => Self::Name,
            _ => Self::Destroy,
        }
    }
}
