//! Where images may come from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::image::ImageReference;

/// Registries that images may come from, or namespaces in them: `ghcr.io`, `docker.io/library`.
///
/// The coordinator's configuration has it, and its API serves it: other programs ask for it instead
/// of knowing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct ImageAllowList(Vec<Origin>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    registry: String,
    /// The first segment of the path, if only that one is allowed.
    namespace: Option<String>,
}

/// Entries at most.
const MOST: usize = 100;

/// An allow-list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowListError {
    /// It would refuse every image.
    #[error("names no registry; name at least one, such as \"ghcr.io\"")]
    Empty,
    /// More entries than anybody can read.
    #[error("has {0} entries; at most {MOST} are possible")]
    TooMany(usize),
    /// An entry is neither a registry nor a namespace in one.
    #[error(
        "has {0:?}; write \"REGISTRY\" or \"REGISTRY/NAMESPACE\", such as \"docker.io/library\""
    )]
    Entry(String),
}

/// The image is from elsewhere; the text lists what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not from an allowed registry; use {0}")]
pub struct NotAllowed(String);

impl ImageAllowList {
    /// Refuses `image` unless it comes from a place on the list.
    pub fn check(&self, image: &ImageReference) -> Result<(), NotAllowed> {
        let (first, rest) = match image.repository().split_once('/') {
            Some((first, _)) => (first, true),
            None => (image.repository(), false),
        };
        let allowed = self.0.iter().any(|origin| {
            image.registry() == origin.registry
                && origin.namespace.as_ref().is_none_or(|namespace| first == namespace && rest)
        });
        if allowed { Ok(()) } else { Err(NotAllowed(self.to_string())) }
    }

    /// The entries, as they are configured.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Origin::to_string)
    }
}

impl Default for ImageAllowList {
    /// The list of the published pages.
    fn default() -> Self {
        let origin = |registry: &str, namespace: Option<&str>| Origin {
            registry: registry.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        Self(vec![
            origin("harbor.buddo.xyz:4443", None),
            origin("docker.io", Some("library")),
            origin("ghcr.io", None),
        ])
    }
}

impl TryFrom<Vec<String>> for ImageAllowList {
    type Error = AllowListError;

    fn try_from(entries: Vec<String>) -> Result<Self, AllowListError> {
        if entries.is_empty() {
            return Err(AllowListError::Empty);
        }
        if entries.len() > MOST {
            return Err(AllowListError::TooMany(entries.len()));
        }
        entries.into_iter().map(Origin::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl From<ImageAllowList> for Vec<String> {
    fn from(list: ImageAllowList) -> Self {
        list.entries().collect()
    }
}

/// As a person reads it: `a/, b/ or c/`.
impl fmt::Display for ImageAllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, origin) in self.0.iter().enumerate() {
            let before = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{origin}/")?;
        }
        Ok(())
    }
}

impl Origin {
    fn parse(text: String) -> Result<Self, AllowListError> {
        let (registry, namespace) = match text.split_once('/') {
            Some((registry, namespace)) => (registry, Some(namespace)),
            None => (text.as_str(), None),
        };
        // An image of it has to be well formed, and of one segment alone.
        let probe = format!("{registry}/{}/app", namespace.unwrap_or("any"));
        let is_segment = namespace.is_none_or(|namespace| !namespace.contains(['/', ':', '@']));
        if !is_segment || ImageReference::parse(&probe).is_err() {
            return Err(AllowListError::Entry(text));
        }
        Ok(Self { registry: registry.to_owned(), namespace: namespace.map(str::to_owned) })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}", self.registry),
            None => f.write_str(&self.registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageReference {
        ImageReference::parse(text).unwrap()
    }

    #[test]
    fn the_published_examples_are_allowed() {
        let list = ImageAllowList::default();
        for text in [
            "harbor.buddo.xyz:4443/operators/my-app:latest",
            "docker.io/library/nginx:latest",
            "ghcr.io/owner/app:v1",
        ] {
            list.check(&image(text)).unwrap();
        }
    }

    #[test]
    fn look_alikes_are_refused_and_the_error_lists_the_allowed_registries() {
        let list = ImageAllowList::default();
        for text in [
            "docker.io.evil.com/library/nginx",
            "docker.io/libraryevil/nginx",
            "docker.io/evil/library/nginx",
            "docker.io/library",
            "harbor.buddo.xyz/operators/app",
            "harbor.buddo.xyz:44431/operators/app",
            "ghcr.io.evil/owner/app",
            "quay.io/owner/app",
        ] {
            let refused = list.check(&image(text)).unwrap_err().to_string();
            assert_eq!(
                refused,
                "is not from an allowed registry; use harbor.buddo.xyz:4443/, docker.io/library/ \
                 or ghcr.io/",
                "{text}"
            );
        }
    }

    #[test]
    fn reads_and_validates_a_list_of_registries() {
        let list: ImageAllowList =
            serde_json::from_str(r#"["quay.io/team", "localhost:5000"]"#).unwrap();
        assert!(list.check(&image("quay.io/team/app")).is_ok());
        assert!(list.check(&image("localhost:5000/app")).is_ok());
        assert!(list.check(&image("quay.io/other/app")).is_err());
        assert_eq!(serde_json::to_string(&list).unwrap(), r#"["quay.io/team","localhost:5000"]"#);
        assert!(ImageAllowList::try_from(vec!["ghcr.io".to_owned(); MOST + 1]).is_err());
        for bad in ["[]", r#"["https://ghcr.io"]"#, r#"["ghcr.io/a/b"]"#, r#"["nginx"]"#, r#"[""]"#]
        {
            assert!(serde_json::from_str::<ImageAllowList>(bad).is_err(), "{bad}");
        }
    }
}
