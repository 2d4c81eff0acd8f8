//! Why a pull failed: maps messages of Podman's image library to messages for an operator.
//!
//! There is no code to go by: containers/image wraps errors as text. The rules are tried in order,
//! the most specific first; an unmatched message is passed on as is and the pull retried.

use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::image::ImageReference;

use crate::ports::ContainersError;

const MIB: u64 = 1024 * 1024;

/// What a rule makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Architecture,
    Disk,
    RateLimited,
    NotFound,
    Untrusted,
    Unauthorized,
    Unreachable,
    Unsupported,
}

/// Phrase (lower case) → what it means. `manifest unknown` comes before `denied`, since a registry
/// may say both; the TLS phrases come before those of an unreachable host, which wrap them.
const RULES: &[(&str, Kind)] = &[
    ("no image found in manifest list for architecture", Kind::Architecture),
    ("no image found in image index for architecture", Kind::Architecture),
    ("no space left on device", Kind::Disk),
    ("disk quota exceeded", Kind::Disk),
    ("toomanyrequests", Kind::RateLimited),
    ("too many requests", Kind::RateLimited),
    ("manifest unknown", Kind::NotFound),
    ("name unknown", Kind::NotFound),
    ("repository name not known", Kind::NotFound),
    ("x509:", Kind::Untrusted),
    ("certificate", Kind::Untrusted),
    ("server gave http response to https client", Kind::Untrusted),
    ("unauthorized", Kind::Unauthorized),
    ("authentication required", Kind::Unauthorized),
    ("invalid username/password", Kind::Unauthorized),
    ("denied", Kind::Unauthorized),
    ("403 (forbidden)", Kind::Unauthorized),
    ("no such host", Kind::Unreachable),
    ("connection refused", Kind::Unreachable),
    ("connection reset", Kind::Unreachable),
    ("no route to host", Kind::Unreachable),
    ("network is unreachable", Kind::Unreachable),
    ("server misbehaving", Kind::Unreachable),
    ("timeout", Kind::Unreachable),
    ("deadline exceeded", Kind::Unreachable),
    ("unexpected eof", Kind::Unreachable),
    ("pinging container registry", Kind::Unreachable),
    ("unexpected http status", Kind::Unreachable),
    ("unsupported", Kind::Unsupported),
    ("404 (not found)", Kind::NotFound),
];

fn kind(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    RULES.iter().find(|(words, _)| message.contains(words)).map(|(_, kind)| *kind)
}

fn failure(code: &str, cause: String, fix: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), cause, fix: fix.into() }
}

/// Podman's message as one line of bounded length.
fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}

/// Turns the message of a failed pull of `image` into an error. `with_credentials`: whether any
/// were sent, which changes the advice.
pub(super) fn classify(
    image: &ImageReference,
    message: &str,
    with_credentials: bool,
) -> ContainersError {
    use ContainersError::{Image, Registry};
    let registry = image.registry();
    match kind(message) {
        Some(Kind::NotFound) => Image(failure(
            "image_not_found",
            format!("the registry {registry} has no image {image}"),
            "check the name and the tag, push the image, then deploy again",
        )),
        Some(Kind::Unauthorized) if with_credentials => Image(failure(
            "registry_unauthorized",
            format!("the registry {registry} refuses {image} with the credentials given"),
            "check that the credentials are valid and may read this repository",
        )),
        Some(Kind::Unauthorized) => Image(failure(
            "registry_unauthorized",
            format!("the registry {registry} refuses {image}: it is private or does not exist"),
            "check the name; make the image public, or give credentials that may read it",
        )),
        Some(Kind::Architecture) => Image(wrong_architecture(image, None)),
        Some(Kind::Unsupported) => Image(failure(
            "image_unsupported",
            format!("{image} cannot be read: {}", one_line(message)),
            "build it as an OCI or Docker (schema 2) image",
        )),
        Some(Kind::RateLimited) => Registry(failure(
            "registry_rate_limited",
            format!("the registry {registry} limits how often this host may pull"),
            "it is retried automatically; credentials for the registry raise its limit",
        )),
        Some(Kind::Untrusted) => Registry(failure(
            "registry_untrusted",
            format!("the TLS certificate of {registry} is not trusted: {}", one_line(message)),
            "it is retried automatically; the registry's operator must fix its certificate",
        )),
        Some(Kind::Unreachable) => Registry(failure(
            "registry_unreachable",
            format!("the registry {registry} cannot be reached: {}", one_line(message)),
            "it is retried automatically; check that the registry is up",
        )),
        Some(Kind::Disk) => no_room(image),
        None => Registry(failure(
            "image_pull_failed",
            format!("{image} could not be pulled: {}", one_line(message)),
            "it is retried automatically; deploy again if it persists",
        )),
    }
}

/// The image is for other machines: `found`, if known, in Go's naming.
pub(super) fn wrong_architecture(image: &ImageReference, found: Option<&str>) -> Failure {
    let machine = architecture();
    let cause = match found {
        Some(found) => format!("{image} is built for {found}, but this host is {machine}"),
        None => format!("{image} has no variant for this host's architecture, {machine}"),
    };
    failure("wrong_architecture", cause, format!("build it for linux/{machine} and push it"))
}

/// No data arrived for too long.
pub(super) fn stalled(image: &ImageReference, seconds: u64) -> ContainersError {
    ContainersError::Registry(failure(
        "pull_stalled",
        format!("the pull of {image} made no progress for {seconds} s"),
        "it is retried automatically; check that the registry is up",
    ))
}

/// The host has less free space than its floor, or the pull ran out of space.
pub(super) fn no_room(image: &ImageReference) -> ContainersError {
    ContainersError::Full(failure(
        "disk_full",
        format!("the host has no room for {image}"),
        "it is retried automatically; the host's administrator must free disk space",
    ))
}

/// The image exceeds the size limit, by what its registry declares or by its unpacked size.
pub(super) fn too_large(image: &ImageReference, bytes: u64, most: u64) -> Failure {
    failure(
        "image_too_large",
        format!(
            "{image} has {} MiB or more, images on this host may have at most {} MiB",
            bytes / MIB,
            most / MIB
        ),
        "make the image smaller, such as by a smaller base image, then deploy again",
    )
}

/// The image's configuration asks for something that images may not have here.
pub(super) fn not_allowed(image: &ImageReference, what: &str, why: &str) -> Failure {
    failure(
        "image_not_allowed",
        format!("{image} has {what}, which images may not have here: {why}"),
        "build the image without it and push it, then deploy again",
    )
}

/// Podman took something from the image into the container that images may not have here.
pub(super) fn annotated(what: &str, why: &str) -> Failure {
    failure(
        "image_not_allowed",
        format!("the container has {what}, which images may not have here: {why}"),
        "build the image without it and push it, then deploy again",
    )
}

/// Podman would hang at this file inside the container.
pub(super) fn account_file(path: &str) -> Failure {
    failure(
        "image_not_allowed",
        format!(
            "{path} inside the container is not an ordinary file of at most 1 MiB; Podman reads it at \
             each start, and would hang"
        ),
        "build the image with an ordinary file there, have the app leave it alone, deploy again",
    )
}

/// The image's configuration has more text than images may have here: `bytes`, if known.
pub(super) fn config_too_large(
    image: &ImageReference,
    bytes: Option<usize>,
    most: usize,
) -> Failure {
    const KIB: usize = 1024;
    let has = bytes.map_or_else(
        || "far more than that".to_owned(),
        |bytes| format!("{} KiB", bytes.div_ceil(KIB)),
    );
    failure(
        "image_config_too_large",
        format!(
            "labels, annotations, environment and the other settings of an image may have {} KiB \
             together, {image} has {has}",
            most / KIB
        ),
        "build the image with less of them and push it, then deploy again",
    )
}

/// Podman's record of the image is larger than anything an image can contain: it has very many
/// names on this host, which may be someone else's doing.
pub(super) fn record_too_large(image: &ImageReference, most: u64) -> ContainersError {
    ContainersError::Registry(failure(
        "image_record_too_large",
        format!(
            "Podman's record of {image} on the host has more than {} MiB, most likely because the \
             image has very many names there",
            most / MIB
        ),
        "it is retried automatically; the host's administrator must take names from the image \
         (`podman untag`), or remove it",
    ))
}

/// The image has more layers than images may have here.
pub(super) fn too_many_layers(image: &ImageReference, layers: usize, most: usize) -> Failure {
    failure(
        "image_too_many_layers",
        format!("{image} has {layers} layers, images on this host may have at most {most}"),
        "build the image with fewer steps or squash it, then deploy again",
    )
}

/// During the pull the disk filled faster than any allowed image can. That may be someone else's
/// doing, so it is retried.
pub(super) fn grew_too_much(image: &ImageReference, bytes: u64, most: u64) -> ContainersError {
    ContainersError::Registry(failure(
        "image_too_large",
        format!(
            "the pull of {image} was ended: {} MiB of the host's disk were used up meanwhile, \
             more than twice the {} MiB that images on this host may have",
            bytes / MIB,
            most / MIB
        ),
        "it is retried automatically; if it persists, make the image smaller",
    ))
}

/// The stream ended without an image.
pub(super) fn incomplete(image: &ImageReference) -> ContainersError {
    ContainersError::Registry(failure(
        "image_pull_failed",
        format!("the pull of {image} ended early"),
        "it is retried automatically",
    ))
}

/// This machine's architecture in Go's naming, as images use it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(message: &str) -> (bool, String) {
        let image = ImageReference::parse("ghcr.io/acme/web:v1").unwrap();
        match classify(&image, message, false) {
            ContainersError::Image(failure) => (true, failure.code),
            ContainersError::Registry(failure) | ContainersError::Full(failure) => {
                (false, failure.code)
            }
            other => panic!("{other}"),
        }
    }

    /// The first five are Podman 4.3.1's own wording; the rest is registries' wording.
    #[rstest::rstest]
    #[case(
        "initializing source docker://ghcr.io/acme/web:missing: reading manifest missing in 127.0.0.1:5599/acme/web: manifest unknown: manifest unknown",
        true,
        "image_not_found"
    )]
    #[case(
        "initializing source docker://x:1: pinging container registry 127.0.0.1:5598: Get \"http://127.0.0.1:5598/v2/\": dial tcp 127.0.0.1:5598: connect: connection refused",
        false,
        "registry_unreachable"
    )]
    #[case(
        "initializing source docker://harbor.buddo.xyz:4443/a/x:1: pinging container registry harbor.buddo.xyz:4443: Get \"https://harbor.buddo.xyz:4443/v2/\": dial tcp: lookup harbor.buddo.xyz on 10.255.255.53:53: no such host",
        false,
        "registry_unreachable"
    )]
    #[case(
        "initializing source docker://ghcr.io/a/b:v1: reading manifest v1 in ghcr.io/a/b: errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required",
        true,
        "registry_unauthorized"
    )]
    #[case(
        "choosing an image from manifest list docker://ghcr.io/a/b: no image found in manifest list for architecture amd64, variant \"\", OS linux",
        true,
        "wrong_architecture"
    )]
    #[case(
        "reading manifest latest in docker.io/library/nginx: toomanyrequests: You have reached your pull rate limit",
        false,
        "registry_rate_limited"
    )]
    #[case("writing blob: adding layer with blob: no space left on device", false, "disk_full")]
    #[case(
        "Get \"https://ghcr.io/v2/\": x509: certificate signed by unknown authority",
        false,
        "registry_untrusted"
    )]
    #[case("received unexpected HTTP status: 502 Bad Gateway", false, "registry_unreachable")]
    #[case("something new", false, "image_pull_failed")]
    fn words_are_understood(#[case] message: &str, #[case] final_: bool, #[case] expected: &str) {
        assert_eq!(code(message), (final_, expected.to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn cause_and_fix_are_single_lines(message in "(?s).{0,2000}") {
            let image = ImageReference::parse("ghcr.io/acme/web:v1").unwrap();
            let (ContainersError::Image(f) | ContainersError::Registry(f)
                | ContainersError::Full(f)) =
                classify(&image, &message, true) else { panic!("no failure") };
            proptest::prop_assert!(!f.cause.contains('\n') && f.cause.len() < 1_600);
            proptest::prop_assert!(!f.fix.contains('\n') && !f.fix.is_empty());
        }
    }
}
