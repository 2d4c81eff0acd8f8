//! Local images.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buddo_runtime::uri::escape;
use buddo_shared::model::image::{Digest, ImageReference};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::elements::{Keep, Reader};
use super::refusal;
use super::transport::{Call, Told, Transport, TransportError};
use crate::model::container::LocalImage;
use crate::ports::{ContainersError, Hindrance};

/// The most that is kept of Podman's answer about one image, in bytes: what `image_policy` allows
/// is smaller, even twice over and with all JSON escapes.
const MAX_INSPECT: usize = 2 * 1024 * 1024;

/// The largest answer about one image that is read, in bytes, most of it skipped. Podman bounds a
/// configuration and a manifest to a few MiB each, but not how many names an image has on a host.
const MAX_STREAMED: u64 = 64 * 1024 * 1024;

/// What is kept of one image. Of its names only those of the requested repository: anyone who has
/// the same bytes pulled under another name adds that one.
const INSPECTED: &[Keep] = &[
    Keep::Whole("Id"),
    Keep::Whole("Digest"),
    Keep::Strings("RepoDigests"),
    Keep::Whole("Architecture"),
    Keep::Whole("Os"),
    Keep::Whole("Size"),
    Keep::Whole("Annotations"),
    Keep::Whole("Labels"),
    Keep::Keys(
        "Config",
        &[
            "User",
            "ExposedPorts",
            "Env",
            "Entrypoint",
            "Cmd",
            "Volumes",
            "WorkingDir",
            "Labels",
            "StopSignal",
        ],
    ),
    Keep::Keys("RootFS", &["Layers"]),
];

/// `GET images/{name}/json`, as far as we read it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Image {
    pub(super) id: String,
    pub(super) digest: Option<String>,
    /// Names in the requested repository.
    pub(super) repo_digests: Option<Vec<String>>,
    /// In Go's naming, such as `amd64`.
    pub(super) architecture: Option<String>,
    /// In Go's naming, such as `linux`.
    pub(super) os: Option<String>,
    /// Bytes on the disk.
    pub(super) size: Option<u64>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) config: Option<Config>,
    #[serde(rename = "RootFS")]
    pub(super) root_fs: Option<RootFs>,
    /// What the policy checks is too large to be kept; of the other fields only the id is known.
    #[serde(skip)]
    pub(super) too_large: bool,
}

/// How an image wants to be run.
#[expect(
    clippy::zero_sized_map_values,
    reason = "JSON has no sets: these are objects of empty objects"
)]
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) user: Option<String>,
    pub(super) exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) volumes: Option<BTreeMap<String, IgnoredAny>>,
    pub(super) working_dir: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) stop_signal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RootFs {
    pub(super) layers: Option<Vec<IgnoredAny>>,
}

/// One entry of `GET images/json`, as far as we read it. Not `Created`: it is the build date.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    /// Every name it ever had.
    history: Option<Vec<String>>,
    digest: Option<String>,
    size: u64,
    containers: Option<u64>,
}

/// How the image is named to Podman. It refuses a tag next to a digest, and the digest is more
/// precise.
pub(super) fn local_name(image: &ImageReference) -> String {
    match image.digest() {
        Some(digest) => image.pinned(digest).to_string(),
        None => image.to_string(),
    }
}

/// Prefix of the digests of `image`'s own repository.
fn own_names(image: &ImageReference) -> String {
    format!("{}/{}@", image.registry(), image.repository())
}

/// The local image of that name, if any. Does not ask a registry.
pub(super) async fn inspect(
    transport: &Transport,
    image: &ImageReference,
) -> Result<Option<Image>, ContainersError> {
    inspect_within(transport, image, MAX_STREAMED).await
}

async fn inspect_within(
    transport: &Transport,
    image: &ImageReference,
    most: u64,
) -> Result<Option<Image>, ContainersError> {
    const OPERATION: &str = "inspect the image";
    let path = format!("images/{}/json", escape(&local_name(image)));
    let call = Call::libpod(OPERATION, Method::GET, path);
    let reader = Reader::one(INSPECTED, own_names(image), MAX_INSPECT);
    let told = transport.object(call, reader, most).await.map_err(|error| {
        if error.hindrance() == Some(Hindrance::TooLarge { most }) {
            refusal::record_too_large(image, most)
        } else {
            error
        }
    })?;
    match told {
        Told::Object(element) => match element.decode::<Image>() {
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => Err(TransportError::Decode(error).during(OPERATION)),
            None => {
                let id = element.id().unwrap_or_default();
                Ok(Some(Image { id, too_large: true, ..Image::default() }))
            }
        },
        Told::Other(answer) if answer.status == StatusCode::NOT_FOUND => Ok(None),
        Told::Other(answer) => Err(answer.refusal()),
    }
}

/// What is kept of each image in a list: none of its labels.
const KEPT: &[Keep] = &[
    Keep::Whole("Id"),
    Keep::Whole("Names"),
    Keep::Whole("RepoDigests"),
    Keep::Whole("History"),
    Keep::Whole("Digest"),
    Keep::Whole("Size"),
    Keep::Whole("Containers"),
];

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) images: Vec<LocalImage>,
    /// Ids of those with too many names to be judged.
    pub(super) too_large: Vec<String>,
}

/// All images. Without `all=true`: intermediate build layers are not images of their own.
pub(super) async fn list(transport: &Transport) -> Result<Listing, ContainersError> {
    let call = Call::libpod("list images", Method::GET, "images/json");
    let mut listing = Listing::default();
    transport
        .list(call.deadline(Duration::from_secs(30)), KEPT, |element| {
            match element.decode::<Listed>() {
                Some(listed) => {
                    listing.images.push(listed.map_err(TransportError::Decode)?.into_image());
                }
                None => listing.too_large.extend(element.id()),
            }
            Ok(())
        })
        .await?;
    Ok(listing)
}

impl Listed {
    fn into_image(self) -> LocalImage {
        let texts: BTreeSet<String> =
            self.names.into_iter().chain(self.repo_digests).flatten().collect();
        let past: BTreeSet<String> = self.history.into_iter().flatten().collect();
        let past: BTreeSet<String> = past.difference(&texts).cloned().collect();
        let parsed = |texts: &BTreeSet<String>| -> Vec<ImageReference> {
            texts.iter().filter_map(|text| ImageReference::parse(text).ok()).collect()
        };
        let (names, former) = (parsed(&texts), parsed(&past));
        LocalImage {
            id: self.id,
            foreign: names.len() < texts.len() || former.len() < past.len(),
            names,
            former,
            digest: self.digest.and_then(|text| Digest::parse(&text).ok()),
            bytes: self.size,
            in_use: self.containers.is_none_or(|count| count > 0),
        }
    }
}

/// Removes an image by its id, or, where Podman requires it, name by name. Never by force: that
/// would also remove its containers.
pub(super) async fn remove(
    transport: &Transport,
    image: &LocalImage,
) -> Result<(), ContainersError> {
    match remove_by(transport, &image.id).await {
        Err(ContainersError::Refused { message, .. }) if message.contains("more than one tag") => {
            for name in image.names.iter().filter(|name| name.digest().is_none()) {
                remove_by(transport, &name.to_string()).await?;
            }
            remove_by(transport, &image.id).await
        }
        other => other,
    }
}

async fn remove_by(transport: &Transport, name: &str) -> Result<(), ContainersError> {
    let path = format!("images/{}?force=false", escape(name));
    let call = Call::libpod("remove the image", Method::DELETE, path);
    let answer = transport.call(call.deadline(Duration::from_mins(1))).await?;
    match answer.status {
        StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
        _ => Err(answer.refusal()),
    }
}

/// Removes what a pull has just stored under this name.
pub(super) async fn discard(
    transport: &Transport,
    image: &ImageReference,
) -> Result<(), ContainersError> {
    remove_by(transport, &local_name(image)).await
}

impl Image {
    /// The digest under which `image`'s own repository holds these bytes. One local image may list
    /// several: from other repositories, and both a multi-platform index and its manifest.
    pub(super) fn registry_digest(&self, image: &ImageReference) -> Option<Digest> {
        let repository = own_names(image);
        let known: Vec<Digest> = self
            .repo_digests
            .iter()
            .flatten()
            .filter_map(|text| text.strip_prefix(&repository))
            .filter_map(|text| Digest::parse(text).ok())
            .collect();
        let own = self.digest.as_deref().and_then(|text| Digest::parse(text).ok());
        if let Some(asked) = image.digest() {
            // Once its tag has moved to another image, Podman no longer lists a name for it, but
            // finds it by its digest. And the same digest means the same bytes.
            return known.into_iter().chain(own).find(|digest| digest == asked);
        }
        match own {
            Some(own) if known.contains(&own) => Some(own),
            _ => known.into_iter().next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// What is learnt of the image from a Podman that reports this.
    async fn inspected(
        told: &serde_json::Value,
        most: u64,
    ) -> Result<Option<Image>, ContainersError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let body = told.to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // A reader that has enough hangs up.
            let _ = stream.write_all(body.as_bytes()).await;
        });
        let image = ImageReference::parse("ghcr.io/acme/web:v1").unwrap();
        let found = inspect_within(&Transport::new(socket), &image, most).await;
        server.abort();
        found
    }

    /// More names than any real image ever had, added by whoever pulled the same bytes under them.
    fn known_by_many_names() -> serde_json::Value {
        let name = |n| format!("evil.test/tenant-{n}/web");
        let tags: Vec<_> = (0..20_000).map(|n| format!("{}:v1", name(n))).collect();
        let mut digests: Vec<_> =
            (0..20_000).map(|n| format!("{}@{}", name(n), digest('a'))).collect();
        digests.push(format!("ghcr.io/acme/web@{}", digest('b')));
        json!({
            "Id": "17af", "Digest": digest('a'), "RepoTags": tags, "RepoDigests": digests,
            "Size": 7, "Config": {"User": "app", "Env": ["A=1"], "Labels": {"a": "b"}},
            "RootFS": {"Type": "layers", "Layers": ["sha256:1", "sha256:2"]},
            "Labels": {"a": "b"}, "Annotations": {"c": "d"}, "NamesHistory": tags,
        })
    }

    #[tokio::test]
    async fn fm_52_names_from_other_repositories_are_skipped() {
        let told = known_by_many_names();
        assert!(told.to_string().len() > MAX_INSPECT);
        let found = inspected(&told, MAX_STREAMED).await.unwrap().unwrap();
        assert!(!found.too_large);
        let image = ImageReference::parse("ghcr.io/acme/web:v1").unwrap();
        assert_eq!(found.registry_digest(&image).map(String::from), Some(digest('b')));
        assert_eq!(found.repo_digests.map(|names| names.len()), Some(1));
        assert_eq!((found.id.as_str(), found.size), ("17af", Some(7)));
        let layers = found.root_fs.and_then(|fs| fs.layers);
        assert_eq!(layers.map(|layers| layers.len()), Some(2));
        assert!(found.labels.is_some() && found.annotations.is_some());
        let config = found.config.unwrap();
        assert_eq!(config.user.as_deref(), Some("app"));
        assert!(config.env.is_some() && config.labels.is_some());
    }

    #[tokio::test]
    async fn fm_52_an_oversized_image_record_is_flagged_and_keeps_its_id() {
        let told = json!({"Id": "17af", "Labels": {"a": "x".repeat(MAX_INSPECT)}});
        let found = inspected(&told, MAX_STREAMED).await.unwrap().unwrap();
        assert_eq!((found.too_large, found.id.as_str()), (true, "17af"));
    }

    #[tokio::test]
    async fn fm_52_an_endless_record_is_not_blamed_on_the_image() {
        let error = inspected(&known_by_many_names(), 1024 * 1024).await.unwrap_err();
        let ContainersError::Registry(failure) = error else { panic!("{error}") };
        assert_eq!(failure.code, "image_record_too_large");
        assert!(failure.cause.contains("1 MiB") && failure.fix.contains("untag"), "{failure:?}");
    }

    fn digest(hex: char) -> String {
        format!("sha256:{}", hex.to_string().repeat(64))
    }

    fn image() -> Image {
        Image {
            digest: Some(digest('b')),
            repo_digests: Some(vec![
                format!("docker.io/library/web@{}", digest('b')),
                format!("ghcr.io/acme/web@{}", digest('a')),
                format!("ghcr.io/acme/web@{}", digest('b')),
            ]),
            ..Image::default()
        }
    }

    fn asked(text: &str) -> Option<String> {
        image().registry_digest(&ImageReference::parse(text).unwrap()).map(String::from)
    }

    #[test]
    fn the_digest_is_taken_from_the_requested_repository() {
        assert_eq!(asked("ghcr.io/acme/web:v1"), Some(digest('b')));
        assert_eq!(asked(&format!("ghcr.io/acme/web@{}", digest('a'))), Some(digest('a')));
        assert_eq!(asked(&format!("ghcr.io/acme/web@{}", digest('c'))), None);
        assert_eq!(asked("ghcr.io/acme/web2:v1"), None);
    }

    #[test]
    fn fm_33_an_image_whose_tag_has_moved_is_known_by_its_digest() {
        let nameless = Image { repo_digests: Some(Vec::new()), ..image() };
        let asked = |hex| {
            let name = format!("ghcr.io/acme/web@{}", digest(hex));
            nameless.registry_digest(&ImageReference::parse(&name).unwrap()).map(String::from)
        };
        assert_eq!(asked('b'), Some(digest('b')));
        assert_eq!(asked('a'), None);
    }

    #[test]
    fn a_tag_is_dropped_when_a_digest_is_given() {
        let text = format!("ghcr.io/acme/web:v1@{}", digest('a'));
        let name = local_name(&ImageReference::parse(&text).unwrap());
        assert_eq!(name, format!("ghcr.io/acme/web@{}", digest('a')));
    }

    /// As Podman 4.3.1 sent it, shortened: pulled under two names, and built on the host.
    const LISTED: &str = r#"[{"Id":"177100f9","ParentId":"","RepoTags":["h.test:4443/t/a:1"],
        "RepoDigests":["h.test:4443/t/a@sha256:38acc52c1d5de83f4900c9d2714fd1fd5d26321d8e1c802a06f132e126a431dd"],
        "Created":1795405103,"Size":2008461,"SharedSize":0,"VirtualSize":2008461,"Labels":null,
        "Containers":1,"Names":["h.test:4443/t/a:1"],"Digest":"sha256:38ac","History":["h.test:4443/t/a:1"]},
        {"Id":"72dbd173","RepoTags":null,"RepoDigests":[],"Created":0,"Size":7,"Containers":0,
        "Names":["tool"]},
        {"Id":"82dbd173","RepoTags":null,"RepoDigests":null,"Size":7,"Names":null},
        {"Id":"92dbd173","RepoTags":null,"RepoDigests":[],"Size":7,"Containers":0,"History":["h.test:4443/t/a:1"],
        "Digest":"sha256:38acc52c1d5de83f4900c9d2714fd1fd5d26321d8e1c802a06f132e126a431dd"}]"#;

    #[test]
    fn the_image_list_gives_names_size_and_use() {
        let listed: Vec<Listed> = serde_json::from_str(LISTED).unwrap();
        let images: Vec<LocalImage> = listed.into_iter().map(Listed::into_image).collect();
        let names: Vec<String> = images[0].names.iter().map(ToString::to_string).collect();
        assert_eq!(names[0], "h.test:4443/t/a:1");
        assert!(names[1].starts_with("h.test:4443/t/a@sha256:38acc"), "{names:?}");
        assert_eq!(
            (images[0].bytes, images[0].in_use, images[0].foreign),
            (2_008_461, true, false)
        );
        assert_eq!((images[1].in_use, images[1].foreign), (false, true));
        // Unknown does not mean unused.
        assert!(images[2].in_use && !images[2].foreign && images[2].names.is_empty());
        assert!(images[0].former.is_empty(), "{:?}", images[0]);
        // Its tag has moved.
        let moved = &images[3];
        assert_eq!(moved.former[0].to_string(), "h.test:4443/t/a:1");
        assert!(moved.names.is_empty() && !moved.foreign && moved.digest.is_some(), "{moved:?}");
    }
}
