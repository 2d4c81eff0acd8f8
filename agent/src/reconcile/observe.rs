//! The observed containers, grouped by workload: one list call, or a few inspections of those
//! that may have changed since.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::model::container::Container;
use crate::model::workload::WorkloadId;
use crate::ports::{Containers, ContainersError};

/// How many containers are inspected concurrently.
const AT_ONCE: usize = 16;

/// The host's containers as Podman last reported them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// By the workload in their labels.
    pub workloads: BTreeMap<WorkloadId, Vec<Container>>,
    /// Containers that have our labels only in part: never touched, only reported.
    pub unknown: Vec<String>,
}

/// Lists the host's containers.
pub async fn observe<C: Containers>(containers: &C) -> Result<Observed, ContainersError> {
    let mut observed = Observed::default();
    for container in containers.list().await? {
        observed.add(container);
    }
    Ok(observed)
}

impl Observed {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.workloads.values().map(Vec::len).sum::<usize>() + self.unknown.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.unknown.is_empty()
    }

    /// Inspects only `names`. All or nothing: if one inspection fails, what is known stays as it
    /// is.
    pub async fn refresh<C: Containers>(
        &mut self,
        containers: &C,
        names: BTreeSet<String>,
    ) -> Result<(), ContainersError> {
        let inspect = async |name: String| {
            let found = containers.inspect(&name).await?;
            Ok((name, found))
        };
        let found: Vec<(String, Option<Container>)> =
            stream::iter(names).map(inspect).buffer_unordered(AT_ONCE).try_collect().await?;
        let names = found.iter().map(|(name, _)| name.as_str()).collect();
        self.forget(&names);
        found.into_iter().filter_map(|(_, container)| container).for_each(|c| self.add(c));
        Ok(())
    }

    fn add(&mut self, container: Container) {
        match container.identity {
            Some(identity) => {
                // Most have one, and `push` would make room for four.
                let of = self.workloads.entry(identity.workload);
                of.or_insert_with(|| Vec::with_capacity(1)).push(container);
            }
            None => self.unknown.push(container.name),
        }
    }

    fn forget(&mut self, names: &HashSet<&str>) {
        self.workloads.retain(|_, containers| {
            containers.retain(|container| !names.contains(container.name.as_str()));
            !containers.is_empty()
        });
        self.unknown.retain(|unknown| !names.contains(unknown.as_str()));
    }
}
