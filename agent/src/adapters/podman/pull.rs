//! Pulls: a stream that reports progress, and failure inside a 200 (containers/podman issue 10612).
//!
//! The Docker-compatible call is used, since libpod's own reports when a layer begins and then
//! nothing until all are done: no percentage could be shown, and a slow pull would look the same as
//! a stalled one.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use buddo_runtime::lines::{self, Lines};
use buddo_runtime::uri::escape;
use buddo_shared::host_wire::manifest::RegistryCredentials;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::image::{Digest, ImageReference};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::transport::{Answer, Call, Transport, TransportError};
use super::{image_policy, images, refusal};
use crate::ports::ContainersError;
use crate::process::disk_space::{DiskSpace, Overrun};

/// The longest line that is read, in bytes. Error texts quote registries, so it is bounded.
const MAX_LINE: usize = 256 * 1024;

/// Bounds on one pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// How long no byte may arrive while layers are missing.
    pub no_progress: Duration,
    /// How long the image may take to unpack once all layers have arrived; Podman is silent then.
    pub unpack: Duration,
    /// How long the whole pull may take.
    pub total: Duration,
    /// Bytes: of all layers as the registry sends them, and of the image unpacked.
    pub max_image: u64,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self {
            no_progress: Duration::from_mins(1),
            unpack: Duration::from_mins(10),
            total: Duration::from_hours(1),
            max_image: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// Pulls `image` and returns the digest that the registry served.
///
/// An image that is too large is noticed in three ways, as Podman's API reports no sizes up front:
/// by the sizes that the stream names as layers begin, six at a time; by the disk space used while
/// they are unpacked, which is at most twice the limit, since Podman keeps all layers compressed
/// until the last is unpacked; and by the final size, in which case the image is removed. Hanging
/// up ends the pull and removes its temporary files; layers that were complete by then stay behind
/// (containers/podman issue 16214), and the next pull of the image uses them.
pub(super) async fn pull(
    transport: &Transport,
    limits: &PullLimits,
    disk_space: Option<&DiskSpace>,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
    progress: &(dyn Fn(u8) + Send + Sync),
) -> Result<Digest, ContainersError> {
    if let Some(disk_space) = disk_space
        && disk_space.shortage().await.is_some()
    {
        return Err(refusal::no_room(image));
    }
    let before = images::inspect(transport, image).await?.map(|found| found.id);
    let whole = run(transport, limits, image, credentials, progress);
    let whole = tokio::time::timeout(limits.total, whole);
    let overrun = async {
        match disk_space {
            Some(disk_space) => disk_space.overrun(limits.max_image.saturating_mul(2)).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = whole => ended,
        overrun = overrun => return Err(match overrun {
            Overrun::Floor(_) => refusal::no_room(image),
            Overrun::Growth(bytes) => refusal::grew_too_much(image, bytes, limits.max_image),
        }),
    };
    ended.unwrap_or_else(|_| Err(refusal::stalled(image, limits.total.as_secs())))?;
    let pulled = images::inspect(transport, image).await?;
    let pulled = pulled.ok_or_else(|| refusal::incomplete(image))?;
    if let Err(failure) = allowed(image, &pulled, limits) {
        // If it was here before, a container may be using it.
        if before.is_none_or(|before| before != pulled.id)
            && let Err(error) = images::discard(transport, image).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%image, error, "a refused image stays until it is collected");
        }
        return Err(ContainersError::Image(failure));
    }
    pulled.registry_digest(image).ok_or_else(|| refusal::incomplete(image))
}

fn allowed(
    image: &ImageReference,
    pulled: &images::Image,
    limits: &PullLimits,
) -> Result<(), Failure> {
    match pulled.size.filter(|bytes| *bytes > limits.max_image) {
        Some(bytes) => Err(refusal::too_large(image, bytes, limits.max_image)),
        None => image_policy::check(image, pulled),
    }
}

async fn run(
    transport: &Transport,
    limits: &PullLimits,
    image: &ImageReference,
    credentials: Option<&RegistryCredentials>,
    progress: &(dyn Fn(u8) + Send + Sync),
) -> Result<(), ContainersError> {
    const OPERATION: &str = "pull the image";
    let name = escape(&images::local_name(image));
    let call = Call {
        path: format!("/v1.41/images/create?fromImage={name}"),
        registry_auth: credentials.map(registry_auth).transpose()?,
        ..Call::libpod(OPERATION, Method::POST, "").deadline(limits.no_progress)
    };
    let opened = transport.open(call).await;
    let (response, _connection) = match opened {
        Ok(opened) => opened,
        // Podman 5 sends the head with the first progress: a silent registry looks like this.
        Err(ContainersError::Unavailable { source, .. })
            if matches!(source.downcast_ref(), Some(TransportError::Deadline(_))) =>
        {
            return Err(refusal::stalled(image, limits.no_progress.as_secs()));
        }
        Err(error) => return Err(error),
    };
    let status = response.status();
    if status != StatusCode::OK {
        // Podman 5's answer if the pull failed before any progress.
        let mut body = Vec::new();
        let mut start = lines::reader(response.into_body()).take(MAX_LINE as u64);
        let read = start.read_to_end(&mut body).await;
        read.map_err(|error| TransportError::Body(error.into()).during(OPERATION))?;
        let answer = Answer { operation: OPERATION, status, body: body.into() };
        return Err(refusal::classify(image, &answer.message(), credentials.is_some()));
    }
    let mut lines = Lines::new(response.into_body(), MAX_LINE);
    let mut layers = Layers::default();
    loop {
        let idle = if layers.complete() { limits.unpack } else { limits.no_progress };
        let Ok(line) = tokio::time::timeout(idle, lines.next()).await else {
            return Err(refusal::stalled(image, idle.as_secs()));
        };
        let Some(line) = line else { return Ok(()) };
        let line = line.map_err(|error| TransportError::Body(error.into()).during(OPERATION))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse(&line).map_err(|error| error.during(OPERATION))? {
            Item::Failed(message) => {
                return Err(refusal::classify(image, &message, credentials.is_some()));
            }
            Item::Layer(layer) => {
                if let Some(percent) = layers.update(layer) {
                    progress(percent);
                }
                if layers.bytes() > limits.max_image {
                    let failure = refusal::too_large(image, layers.bytes(), limits.max_image);
                    return Err(ContainersError::Image(failure));
                }
            }
            Item::Other => {}
        }
    }
}

/// The `X-Registry-Auth` header: base64url of a JSON object.
fn registry_auth(credentials: &RegistryCredentials) -> Result<HeaderValue, ContainersError> {
    const OPERATION: &str = "send registry credentials";
    let json = zeroize::Zeroizing::new(
        serde_json::to_vec(credentials)
            .map_err(|error| TransportError::Decode(error).during(OPERATION))?,
    );
    let mut value = HeaderValue::from_str(&BASE64_URL_SAFE.encode(&*json))
        .map_err(|error| TransportError::Request(error.into()).during(OPERATION))?;
    value.set_sensitive(true);
    Ok(value)
}

/// One line of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Layer(Layer),
    Failed(String),
    Other,
}

#[derive(Debug, PartialEq, Eq)]
struct Layer {
    id: String,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Seen,
    Bytes { current: u64, total: u64 },
    Done,
}

fn parse(line: &str) -> Result<Item, TransportError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        status: Option<String>,
        id: Option<String>,
        error: Option<String>,
        progress_detail: Option<Detail>,
    }
    #[derive(Deserialize, Default)]
    struct Detail {
        #[serde(default)]
        current: i64,
        #[serde(default)]
        total: i64,
    }
    let raw: Raw = serde_json::from_str(line).map_err(TransportError::Decode)?;
    if let Some(message) = raw.error.filter(|message| !message.is_empty()) {
        return Ok(Item::Failed(message));
    }
    let (Some(status), Some(id)) = (raw.status, raw.id) else { return Ok(Item::Other) };
    let progress = match status.as_str() {
        "Pulling fs layer" => Progress::Seen,
        "Downloading" => {
            let detail = raw.progress_detail.unwrap_or_default();
            // A registry that names no size gives -1.
            let bytes = |n: i64| u64::try_from(n).unwrap_or_default();
            Progress::Bytes { current: bytes(detail.current), total: bytes(detail.total) }
        }
        "Already exists" | "Download complete" => Progress::Done,
        _ => return Ok(Item::Other),
    };
    Ok(Item::Layer(Layer { id, progress }))
}

/// Progress of the layers Podman has mentioned. It pulls six at a time, so the sum may grow later:
/// the percentage only ever rises, and 100 is reserved for the end.
#[derive(Debug, Default)]
struct Layers {
    layers: HashMap<String, (u64, u64, bool)>,
    shown: u8,
}

/// More layers than any image may have (overlayfs allows 500).
const MAX_LAYERS: usize = 1_000;

impl Layers {
    /// Applies one line; returns the new percentage if it rose.
    fn update(&mut self, layer: Layer) -> Option<u8> {
        if self.layers.len() >= MAX_LAYERS && !self.layers.contains_key(&layer.id) {
            return None;
        }
        let (current, total, done) = self.layers.entry(layer.id).or_default();
        match layer.progress {
            Progress::Seen => {}
            Progress::Bytes { current: c, total: t } => {
                (*current, *total, *done) = (c, t, false);
            }
            Progress::Done => (*current, *done) = (*total, true),
        }
        let (current, total) = self.layers.values().fold((0_u64, 0_u64), |sum, layer| {
            (sum.0.saturating_add(layer.0.min(layer.1)), sum.1.saturating_add(layer.1))
        });
        let percent = u8::try_from(current.saturating_mul(100).checked_div(total)?).unwrap_or(99);
        let percent = percent.min(99);
        (percent > self.shown).then(|| {
            self.shown = percent;
            percent
        })
    }

    /// Bytes of the layers mentioned, as named by the registry, or as received where it names less.
    fn bytes(&self) -> u64 {
        let bytes = self.layers.values().map(|(current, total, _)| *current.max(total));
        bytes.fold(0, u64::saturating_add)
    }

    /// Whether every layer mentioned has arrived.
    fn complete(&self) -> bool {
        !self.layers.is_empty() && self.layers.values().all(|layer| layer.2)
    }
}

#[cfg(test)]
mod tests;
