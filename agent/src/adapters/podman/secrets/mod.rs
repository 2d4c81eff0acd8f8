//! Podman secrets: environment values that the create call references but does not carry.
//!
//! So the call and Podman's database hold only names, and `inspect` of a container that has not
//! been started shows no value. A start puts the value into the environment: from then until the
//! container is removed, even while it is stopped, the runtime's `config.json` holds it in clear
//! text, in a folder that only Podman's user can enter. Podman 4 takes `Config.Env` of `inspect`
//! from that file and shows the value to that user; later versions mask it
//! (containers/podman#23959). None of this protects a value from someone who can act as Podman's
//! user: a secret is a file of that user's too, in base64. Once container and secret are removed,
//! nothing of the value is left.

mod files;
mod mend;

use std::io;
use std::path::Path;

use buddo_runtime::uri::escape;
use buddo_shared::model::secret::Secret;
use http::{Method, StatusCode};
use serde::Deserialize;

use self::files::Files;
use super::shortage;
use super::transport::{Call, Transport};
use crate::model::container::Mended;
use crate::ports::ContainersError;

/// Prefix of the agent's secrets; Podman 4.3 gives secrets no labels.
const PREFIX: &str = "buddo-";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    name: String,
}

pub(super) async fn list(transport: &Transport) -> Result<Vec<String>, ContainersError> {
    let call = Call::libpod("list secrets", Method::GET, "secrets/json");
    let answer = transport.call(call).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    let listed: Vec<Listed> = answer.json()?;
    Ok(listed.into_iter().map(|l| l.spec.name).filter(|n| n.starts_with(PREFIX)).collect())
}

pub(super) async fn put(
    transport: &Transport,
    name: &str,
    value: &Secret,
) -> Result<(), ContainersError> {
    let path = format!("secrets/create?name={}", escape(name));
    // Not JSON: the body is the value, byte for byte.
    let call = Call::libpod("store a secret", Method::POST, path)
        .body("application/octet-stream", value.expose().as_bytes().to_vec());
    let answer = transport.call(call).await?;
    // 4.3 answers 500 where later versions say 409.
    let exists = answer.status == StatusCode::CONFLICT
        || (answer.status == StatusCode::INTERNAL_SERVER_ERROR
            && answer.message().ends_with("secret name in use"));
    if answer.status == StatusCode::OK || answer.status == StatusCode::CREATED || exists {
        Ok(())
    } else {
        Err(shortage::refusal(&answer))
    }
}

pub(super) async fn remove(transport: &Transport, name: &str) -> Result<(), ContainersError> {
    let path = format!("secrets/{}", escape(name));
    let answer = transport.call(Call::libpod("remove a secret", Method::DELETE, path)).await?;
    match answer.status {
        StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
        _ => Err(answer.refusal()),
    }
}

/// Repairs the files in which the Podman with this storage keeps its secrets.
pub(super) async fn mend(graph_root: &Path) -> io::Result<Mended> {
    Files::below(graph_root).mend().await
}
