//! Local images.

use buddo_shared::image::{Digest, ImageReference};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::transport::{Call, Transport};
use crate::ports::ContainersError;
use crate::text::escape;

/// `GET images/{name}/json`, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
    digest: Option<String>,
    repo_digests: Option<Vec<String>>,
    /// In Go's words, such as `amd64`.
    pub(super) architecture: Option<String>,
}

/// How Podman is told an image. It refuses a tag beside a digest, and the digest says more.
pub(super) fn local_name(image: &ImageReference) -> String {
    match image.digest() {
        Some(digest) => image.pinned(digest).to_string(),
        None => image.to_string(),
    }
}

/// The local image of that name, where there is one. Asks no registry.
pub(super) async fn inspect(
    transport: &Transport,
    image: &ImageReference,
) -> Result<Option<Image>, ContainersError> {
    let path = format!("images/{}/json", escape(&local_name(image)));
    let answer = transport.call(Call::libpod("inspect the image", Method::GET, path)).await?;
    match answer.status {
        StatusCode::OK => answer.json().map(Some),
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(answer.refusal()),
    }
}

impl Image {
    /// The digest under which `image`'s own repository holds these bytes. One local image may
    /// list several: of other repositories, and both a multi-platform index and its manifest.
    pub(super) fn registry_digest(&self, image: &ImageReference) -> Option<Digest> {
        let repository = format!("{}/{}@", image.registry(), image.repository());
        let known: Vec<Digest> = self
            .repo_digests
            .iter()
            .flatten()
            .filter_map(|text| text.strip_prefix(&repository))
            .filter_map(|text| Digest::parse(text).ok())
            .collect();
        if let Some(asked) = image.digest() {
            return known.into_iter().find(|digest| digest == asked);
        }
        let own = self.digest.as_deref().and_then(|text| Digest::parse(text).ok());
        match own {
            Some(own) if known.contains(&own) => Some(own),
            _ => known.into_iter().next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            architecture: None,
        }
    }

    fn asked(text: &str) -> Option<String> {
        image().registry_digest(&ImageReference::parse(text).unwrap()).map(String::from)
    }

    #[test]
    fn the_digest_is_the_one_of_the_asked_repository() {
        assert_eq!(asked("ghcr.io/acme/web:v1"), Some(digest('b')));
        assert_eq!(asked(&format!("ghcr.io/acme/web@{}", digest('a'))), Some(digest('a')));
        assert_eq!(asked(&format!("ghcr.io/acme/web@{}", digest('c'))), None);
        assert_eq!(asked("ghcr.io/acme/web2:v1"), None);
    }

    #[test]
    fn podman_is_never_told_a_tag_beside_a_digest() {
        let text = format!("ghcr.io/acme/web:v1@{}", digest('a'));
        let name = local_name(&ImageReference::parse(&text).unwrap());
        assert_eq!(name, format!("ghcr.io/acme/web@{}", digest('a')));
    }
}
