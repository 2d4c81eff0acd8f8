//! Hosts: list, drain, limit memory, remove.

use jiff::Timestamp;
use serde_json::json;

use super::{AdminContext, AdminError};
use crate::service::hosts::join::{self, HostError};
use crate::store::StoreError;
use crate::store::contract::{Host, Load};

/// All hosts, by name, each with its load.
pub async fn hosts(context: &AdminContext) -> Result<Vec<(Host, Load)>, StoreError> {
    join::list_with_load(&context.store).await
}

/// Drains a host: it gets no further deployments; existing ones stay.
pub async fn drain(context: &AdminContext, name: &str) -> Result<Host, AdminError> {
    set(context, name, Some(context.now), "host_drain").await
}

pub async fn undrain(context: &AdminContext, name: &str) -> Result<Host, AdminError> {
    set(context, name, None, "host_undrain").await
}

/// Limits the memory a host may claim; `None`: as much as it reports.
pub async fn bound(
    context: &AdminContext,
    name: &str,
    max_memory_mb: Option<u64>,
) -> Result<(), AdminError> {
    let name = name.to_owned();
    if max_memory_mb == Some(0) {
        return Err(HostError::NoMemory.into());
    }
    context
        .write(move |tables, context| {
            let found = tables.host_named(&name)?.filter(|host| host.identity.removed_at.is_none());
            let host = found.ok_or_else(|| HostError::Unknown(name.clone()))?;
            tables.set_max_memory(host.id, max_memory_mb)?;
            let details = json!({ "host": name, "max_memory_mb": max_memory_mb });
            Ok(tables.insert_admin_act("host_bound", context.now, context.actor, &details)?)
        })
        .await
}

/// Removes a host without deployments from the platform.
pub async fn remove_host(context: &AdminContext, name: &str) -> Result<(), AdminError> {
    let name = name.to_owned();
    context
        .write(move |tables, context| {
            Ok(join::take_off(tables, context.now, context.actor, &name)?)
        })
        .await
}

async fn set(
    context: &AdminContext,
    name: &str,
    since: Option<Timestamp>,
    act: &'static str,
) -> Result<Host, AdminError> {
    let name = name.to_owned();
    context
        .write(move |tables, context| {
            let found = tables.host_named(&name)?.filter(|host| host.identity.removed_at.is_none());
            let mut host = found.ok_or_else(|| HostError::Unknown(name.clone()))?;
            if host.identity.drained_at.is_some() != since.is_some() {
                tables.set_drained(host.id, since)?;
                tables.insert_admin_act(
                    act,
                    context.now,
                    context.actor,
                    &json!({ "host": name }),
                )?;
                host.identity.drained_at = since;
            }
            Ok(host)
        })
        .await
}
