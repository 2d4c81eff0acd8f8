//! Container images without a build tool and without a network: a program, the shared libraries
//! it is linked with, and environment variables become an OCI image in the world's registry.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::world::{PortOf, World};

/// A layer that holds one program and what it needs to run.
#[derive(Debug, Clone)]
pub struct Layer {
    bytes: Bytes,
    entrypoint: String,
}

impl Layer {
    /// Packs `program`, as `/app`, with its shared libraries in their usual places.
    pub fn of_program(program: &Path) -> anyhow::Result<Self> {
        Self::with_ballast(program, 0)
    }

    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The same with a named pipe at `path` inside, on which any reader hangs.
    pub fn with_pipe(program: &Path, path: &str) -> anyhow::Result<Self> {
        let plain = Self::of_program(program)?;
        let mut tar = tar::Builder::new(Vec::new());
        let mut archive = tar::Archive::new(&plain.bytes[..]);
        for entry in archive.entries()? {
            let entry = entry?;
            tar.append(&entry.header().clone(), entry)?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Fifo);
        header.set_mode(0o644);
        header.set_size(0);
        tar.append_data(&mut header, path, std::io::empty())?;
        Ok(Self { bytes: tar.into_inner()?.into(), ..plain })
    }

    /// The same with that many bytes of filler.
    pub fn with_ballast(program: &Path, ballast: u64) -> anyhow::Result<Self> {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, program, Path::new("app"))?;
        for library in libraries(program)? {
            append(&mut tar, &library, library.strip_prefix("/")?)?;
        }
        // Somewhere to write, for programs that need it.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o1777);
        header.set_size(0);
        tar.append_data(&mut header, "tmp/", std::io::empty())?;
        if ballast > 0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(ballast);
            header.set_mode(0o644);
            tar.append_data(&mut header, "ballast", std::io::repeat(0).take(ballast))?;
        }
        Ok(Self { bytes: tar.into_inner()?.into(), entrypoint: "/app".to_owned() })
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len().try_into()?);
    header.set_mode(0o755);
    Ok(tar.append_data(&mut header, to, bytes.as_slice())?)
}

/// What `ldd` names: the loader and every library, by the paths that the program asks for.
fn libraries(program: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    ensure!(output.status.success(), "ldd cannot read {}", program.display());
    let text = String::from_utf8(output.stdout)?;
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}

/// What an author may put into an image besides its first layer.
#[derive(Debug, Clone)]
pub struct Written {
    /// Fields of its configuration's `config`, in addition to or instead of the usual ones.
    pub config: Value,
    /// Annotations of its manifest; Docker's format has none.
    pub annotations: Value,
    /// The operating system that it claims to be for.
    pub os: &'static str,
    /// More layers, empty ones.
    pub empty_layers: usize,
    /// In Docker's format (schema 2) instead of OCI's.
    pub docker: bool,
}

impl Default for Written {
    fn default() -> Self {
        let config = json!({});
        Self { config, annotations: json!({}), os: "linux", empty_layers: 0, docker: false }
    }
}

/// Stores an image as `name:tag` (a name without its registry, such as `demo/web`) and returns
/// its manifest's digest. A tag that exists moves.
pub async fn publish(
    world: &World,
    layer: &Layer,
    name: &str,
    tag: &str,
    env: &[(&str, &str)],
) -> anyhow::Result<String> {
    let registry = world.layout().address(PortOf::Registry).into();
    publish_at(registry, layer, name, tag, env).await
}

/// The same in any registry without TLS and accounts.
pub async fn publish_at(
    registry: SocketAddr,
    layer: &Layer,
    name: &str,
    tag: &str,
    env: &[(&str, &str)],
) -> anyhow::Result<String> {
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let written = Written { config: json!({ "Env": env }), ..Written::default() };
    write(registry, layer, name, tag, &written).await
}

/// The same with anything its author writes.
pub async fn publish_written(
    world: &World,
    layer: &Layer,
    name: &str,
    tag: &str,
    written: &Written,
) -> anyhow::Result<String> {
    write(world.layout().address(PortOf::Registry).into(), layer, name, tag, written).await
}

async fn write(
    registry: SocketAddr,
    layer: &Layer,
    name: &str,
    tag: &str,
    written: &Written,
) -> anyhow::Result<String> {
    let registry = Registry {
        client: Client::builder(TokioExecutor::new()).build_http(),
        base: format!("http://{registry}/v2/{name}"),
    };
    let [manifest_type, config_type, layer_type] = if written.docker { DOCKER } else { OCI };
    let mut layers = vec![(registry.blob(layer.bytes.clone()).await?, layer.bytes.len())];
    if written.empty_layers > 0 {
        // A tar archive ends with two empty blocks, and this one has nothing before them.
        let empty = Bytes::from_static(&[0; 1024]);
        let digest = registry.blob(empty.clone()).await?;
        layers.extend(std::iter::repeat_n((digest, empty.len()), written.empty_layers));
    }
    let mut config = json!({ "Entrypoint": [layer.entrypoint], "ExposedPorts": {"8080/tcp": {}} });
    if let (Some(config), Some(more)) = (config.as_object_mut(), written.config.as_object()) {
        config.extend(more.clone());
    }
    let config = json!({
        "architecture": architecture()?,
        "os": written.os,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|(digest, _)| digest).collect::<Vec<_>>(),
        },
    });
    let config = Bytes::from(config.to_string());
    let config_digest = registry.blob(config.clone()).await?;
    let layers: Vec<Value> = layers
        .iter()
        .map(|(digest, size)| json!({"mediaType": layer_type, "digest": digest, "size": size}))
        .collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": { "mediaType": config_type, "digest": config_digest, "size": config.len() },
        "layers": layers,
    });
    if !written.docker {
        manifest["annotations"] = written.annotations.clone();
    }
    registry.manifest(tag, manifest_type, Bytes::from(manifest.to_string())).await
}

/// Media types of a manifest, a configuration and an uncompressed layer.
const OCI: [&str; 3] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar",
];

/// Docker's names for the same.
const DOCKER: [&str; 3] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar",
];

fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no name for the architecture {other} in OCI images is known here"),
    }
}

fn sha256(bytes: &[u8]) -> String {
    buddo_shared::host_wire::signed::digest_of(bytes).to_string()
}

/// The few calls of the distribution specification that a push needs.
struct Registry {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Registry {
    async fn blob(&self, bytes: Bytes) -> anyhow::Result<String> {
        let digest = sha256(&bytes);
        let there = format!("{}/blobs/{digest}", self.base);
        if self.call(Method::HEAD, &there, None, Bytes::new()).await?.0 == 200 {
            return Ok(digest);
        }
        let begin = format!("{}/blobs/uploads/", self.base);
        let (status, location) = self.call(Method::POST, &begin, None, Bytes::new()).await?;
        ensure!(status == 202, "the registry answered {status} to an upload's begin");
        let location = location.context("the registry named no place for the upload")?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let end = format!("{location}{separator}digest={digest}");
        let kind = Some("application/octet-stream");
        let (status, _) = self.call(Method::PUT, &end, kind, bytes).await?;
        ensure!(status == 201, "the registry answered {status} to an upload");
        Ok(digest)
    }

    async fn manifest(&self, tag: &str, kind: &str, bytes: Bytes) -> anyhow::Result<String> {
        let digest = sha256(&bytes);
        let uri = format!("{}/manifests/{tag}", self.base);
        let (status, _) = self.call(Method::PUT, &uri, Some(kind), bytes).await?;
        ensure!(status == 201, "the registry answered {status} to a manifest");
        Ok(digest)
    }

    async fn call(
        &self,
        method: Method,
        uri: &str,
        kind: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<(u16, Option<String>)> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let response = self.client.request(request.body(Full::new(body))?).await?;
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION);
        let location = location.map(|value| value.to_str().map(str::to_owned)).transpose()?;
        response.into_body().collect().await?;
        Ok((status, location))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_holds_the_program_and_its_loader() {
        let program = std::env::current_exe().unwrap();
        let layer = Layer::of_program(&program).unwrap();
        let mut archive = tar::Archive::new(&layer.bytes[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names[0], "app");
        assert!(names.iter().any(|name| name.contains("ld-linux")), "{names:?}");
        assert!(names.iter().any(|name| name.contains("libc.so")), "{names:?}");
    }
}
