//! What the agent knows of a workload after a restart: the part of its state that is in the
//! database.

use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::address::Index;
use crate::model::workload::{Identity, Slot};

/// A container that answers visitors, by what its labels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    pub revision: Revision,
    pub slot: Slot,
}

impl Serving {
    /// Whether it is that container, of the same workload.
    pub fn is(self, identity: Identity) -> bool {
        (self.revision, self.slot) == (identity.revision, identity.slot)
    }
}

/// What must survive an agent restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Persisted {
    pub index: Option<Index>,
    pub live: Option<Serving>,
    /// The digests that tags were resolved to.
    pub digests: BTreeMap<Revision, Digest>,
    /// Revisions that were given up; they are not tried again.
    pub failures: BTreeMap<Revision, Failure>,
    /// Revisions that served once: only auto rollback gives them up, otherwise they are retried.
    pub proven: BTreeSet<Revision>,
    /// The watch over the wanted revision, or its outcome.
    pub rollback_watch: Option<RollbackWatch>,
}

/// What auto rollback must know again after an agent restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RollbackWatch {
    /// The revision went live and is watched.
    Watching {
        revision: Revision,
        /// When it went live, by wall time: the only clock that survives a restart or reboot.
        since: Timestamp,
    },
    /// The revision was given up for what it did, and rolled back to its predecessor.
    RolledBack {
        /// The revision given up.
        revision: Revision,
    },
    /// Another workload of the deployment was given up, and a revision is rolled back as a whole:
    /// this one, too.
    RolledBackToo {
        /// The revision given up.
        revision: Revision,
        /// The revision of the deployment that went back. In a later one, this content is tried
        /// again: it did nothing wrong.
        deployment: Revision,
    },
}
