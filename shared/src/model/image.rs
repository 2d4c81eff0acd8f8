//! Image references, and which registries a deployment may pull from.
//!
//! A reference is compared by its parsed parts. A comparison by string prefix would accept
//! `docker.io.evil.com/…` or `ghcr.io@evil/…`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::text_newtype;

/// A `sha256:` digest in its canonical form (OCI image spec, descriptor digests). A cheap clone: a
/// host keeps several of each deployment's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

/// A text that is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has a malformed digest; write sha256: and 64 lowercase hex digits")]
pub struct DigestError;

impl Digest {
    /// Parses `sha256:` and 64 lowercase hex digits.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:").ok_or(DigestError)?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() == 64 && hex.bytes().all(is_hex) {
            Ok(Self(text.into()))
        } else {
            Err(DigestError)
        }
    }
}

text_newtype!(Digest, DigestError);

/// A complete image reference: registry, repository, and a tag, a digest or both. Nothing in it
/// depends on a client's default except the tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an [`ImageReference`], or not one that may be deployed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Longer than any registry accepts.
    #[error("has {0} characters; an image reference has at most 512")]
    Length(usize),
    /// There is no `registry/` in front.
    #[error("names no registry; write it in full, such as docker.io/library/nginx:latest")]
    NoRegistry,
    /// The part before the first slash is not a host and port.
    #[error("has the registry {0:?}, which is not a host name with an optional port")]
    Registry(String),
    /// The path is empty or contains what the distribution spec does not allow.
    #[error(
        "has the repository {0:?}; use lowercase letters, digits and single . _ - between them"
    )]
    Repository(String),
    /// The tag contains what the distribution spec does not allow.
    #[error("has the tag {0:?}; a tag has 1 to 128 letters, digits, and . _ - not in front")]
    Tag(String),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl ImageReference {
    /// Parses a reference in full form (`registry/repository[:tag][@digest]`). Without tag and
    /// digest, the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text.len() > 512 {
            return Err(ImageError::Length(text.len()));
        }
        let (registry, rest) = text.split_once('/').ok_or(ImageError::NoRegistry)?;
        if !is_registry(registry) {
            // `library/nginx` and `nginx/x` are names without a registry, not malformed registries.
            return Err(if is_path_component(registry) {
                ImageError::NoRegistry
            } else {
                ImageError::Registry(registry.to_owned())
            });
        }
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (rest, None),
        };
        let (repository, tag) = match name.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        if repository.len() > 255 || !repository.split('/').all(is_path_component) {
            return Err(ImageError::Repository(repository.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ImageError::Tag(tag.to_owned()));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }

    /// Host and port of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry, without tag or digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if given or implied.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the image, if given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository pinned to `digest`, without a tag: the reference that pulls exactly this
    /// image.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::parse(&text)
    }
}

impl From<ImageReference> for String {
    fn from(image: ImageReference) -> Self {
        image.to_string()
    }
}

/// A registry has a dot or a port: the rule by which the reference grammar of the distribution
/// project tells a host from a path.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port_is_valid = port.is_none_or(|port| {
        port.len() <= 5
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    let label_is_valid = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    port_is_valid
        && host.split('.').all(label_is_valid)
        && (host.contains('.') || port.is_some() || host == "localhost")
}

/// `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*` of the distribution spec.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_are_alphanumeric = bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b));
    let separators_are_valid =
        text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        });
    ends_are_alphanumeric && separators_are_valid
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` of the distribution spec.
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.as_bytes().first().is_some_and(|b| word(*b))
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, ImageError> {
        ImageReference::parse(text).map(|image| image.to_string())
    }

    #[test]
    fn the_tag_defaults_to_latest() {
        assert_eq!(parsed("ghcr.io/owner/app").as_deref(), Ok("ghcr.io/owner/app:latest"));
    }

    #[test]
    fn errors_name_the_malformed_part() {
        assert_eq!(parsed("nginx:latest"), Err(ImageError::NoRegistry));
        assert_eq!(parsed("library/nginx"), Err(ImageError::NoRegistry));
        assert!(matches!(parsed("ghcr.io@evil/app"), Err(ImageError::Registry(_))));
        assert!(matches!(parsed("Docker.io/library/nginx"), Err(ImageError::Registry(_))));
        assert!(matches!(parsed("ghcr.io:0/a"), Err(ImageError::Registry(_))));
        assert!(matches!(parsed("ghcr.io/Owner/app"), Err(ImageError::Repository(_))));
        assert!(matches!(parsed("ghcr.io/a/../b"), Err(ImageError::Repository(_))));
        assert!(matches!(parsed("ghcr.io//a"), Err(ImageError::Repository(_))));
        assert!(matches!(parsed("ghcr.io/a:-x"), Err(ImageError::Tag(_))));
        assert!(matches!(parsed("ghcr.io/a:x y"), Err(ImageError::Tag(_))));
        assert!(matches!(parsed("ghcr.io/a@sha256:abc"), Err(ImageError::Digest(_))));
        assert!(matches!(
            parsed(&format!("ghcr.io/a@sha256:{}", "A".repeat(64))),
            Err(ImageError::Digest(_))
        ));
    }

    #[test]
    fn pinning_drops_the_tag() {
        let digest = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
        let image = ImageReference::parse("ghcr.io/a/b:v1").unwrap().pinned(&digest);
        assert_eq!(image.to_string(), format!("ghcr.io/a/b@{digest}"));
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(
            registry in "[a-z]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?",
            repository in "[a-z0-9]{1,6}([._-][a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,6}){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9._-]{0,20})?",
            digest in "(@sha256:[0-9a-f]{64})?",
        ) {
            let text = format!("{registry}/{repository}{tag}{digest}");
            let image = ImageReference::parse(&text).unwrap();
            prop_assert_eq!(&ImageReference::parse(&image.to_string()).unwrap(), &image);
            prop_assert!(image.to_string().starts_with(&text));
        }

        #[test]
        fn the_parser_never_panics_or_accepts_white_space(text in ".{0,80}") {
            if let Ok(image) = ImageReference::parse(&text) {
                prop_assert!(!image.to_string().contains(|c: char| c.is_whitespace() || c.is_control()));
            }
        }
    }
}
