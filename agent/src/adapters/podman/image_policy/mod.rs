//! What an image may ask of its host: one check, after a pull and again before each create, so that
//! an image that was already here is checked as well. Pure.

mod parts;
mod rules;

use std::collections::BTreeMap;

use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::image::ImageReference;

pub(super) use self::rules::Treatment;
use self::rules::{Part, RULES, Rule};
use super::images::{Config, Image};
use super::refusal;

/// Bytes of text in an image's configuration: labels, annotations, environment, and the little else
/// there is. Most of it appears in every list of containers and images.
const MAX_TEXT: usize = 64 * 1024;

/// Layers of an image: Docker's limit.
const MAX_LAYERS: usize = 127;

/// Characters shown of a key or value.
const SHOWN: usize = 80;

/// Whether `found`, the local image for `image`, may be run; if not, why.
pub(super) fn check(image: &ImageReference, found: &Image) -> Result<(), Failure> {
    if found.too_large {
        return Err(refusal::config_too_large(image, None, MAX_TEXT));
    }
    if let Some(architecture) = found.architecture.as_deref()
        && !architecture.is_empty()
        && architecture != refusal::architecture()
    {
        // Podman only warns, and the container would exit with 'exec format error'.
        return Err(refusal::wrong_architecture(image, Some(architecture)));
    }
    let text = text(found);
    if text > MAX_TEXT {
        return Err(refusal::config_too_large(image, Some(text), MAX_TEXT));
    }
    let layers = found.root_fs.as_ref().and_then(|fs| fs.layers.as_ref()).map_or(0, Vec::len);
    if layers > MAX_LAYERS {
        return Err(refusal::too_many_layers(image, layers, MAX_LAYERS));
    }
    match applied(found).into_iter().find(|(rule, _)| rule.treatment == Treatment::Refused) {
        None => Ok(()),
        Some((rule, what)) => Err(refusal::not_allowed(image, &what, rule.why)),
    }
}

/// The rules that apply to an image, with what they matched.
fn applied(image: &Image) -> Vec<(&'static Rule, String)> {
    let annotations = keys(image.annotations.as_ref());
    let config = image.config.as_ref().and_then(|config| config.labels.as_ref());
    let labels: Vec<&str> = keys(image.labels.as_ref()).chain(keys(config)).collect();
    let first = |part: fn(&Part) -> Option<&'static str>, key: &str| {
        RULES.iter().find(|rule| part(&rule.part).is_some_and(|prefix| key.starts_with(prefix)))
    };
    let mut applied = Vec::new();
    for key in annotations {
        let rule = first(annotation_prefix, key);
        applied.extend(rule.map(|rule| (rule, format!("the annotation {}", quoted(key)))));
    }
    for key in labels {
        let rule = first(label_prefix, key);
        applied.extend(rule.map(|rule| (rule, format!("the label {}", quoted(key)))));
    }
    applied.extend(RULES.iter().filter_map(|rule| match rule.part {
        Part::Found(look) => look(image).map(|what| (rule, what)),
        Part::Annotation(_) | Part::Label(_) | Part::Unseen => None,
    }));
    applied
}

/// Prefixes of annotations that Podman itself sets on each container.
const PODMANS: [&str; 3] = ["io.podman.", "io.container.", "io.kubernetes."];

/// The first annotation of a container that a runtime or hook would act on and that neither Podman
/// nor the create call set, and what it would do.
pub(super) fn obeyed<'a>(
    mut annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Option<(String, &'static str)> {
    annotations.find_map(|(key, value)| {
        let fits = |rule: &&Rule| annotation_prefix(&rule.part).is_some_and(|p| key.starts_with(p));
        let rule = RULES.iter().find(fits)?;
        let own = PODMANS.iter().any(|prefix| key.starts_with(prefix));
        let obeyed = rule.treatment == Treatment::Refused && !own && !value.is_empty();
        obeyed.then(|| (format!("the annotation {}", quoted(key)), rule.why))
    })
}

fn annotation_prefix(part: &Part) -> Option<&'static str> {
    if let Part::Annotation(prefix) = part { Some(prefix) } else { None }
}

fn label_prefix(part: &Part) -> Option<&'static str> {
    if let Part::Label(prefix) = part { Some(prefix) } else { None }
}

fn keys(map: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = &str> {
    map.into_iter().flat_map(BTreeMap::keys).map(String::as_str)
}

/// Annotations that the create call sets to an empty value, since its own take precedence over the
/// image's. Only for a Podman that takes an image's at all: from 4.6 on, naming them would bring
/// them in.
pub(super) fn emptied(image: &Image, podman: &str) -> BTreeMap<String, &'static str> {
    let mut numbers = podman.split('.').map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().flatten(), numbers.next().flatten());
    let takes = !matches!(version, (Some(5..), _) | (Some(4), Some(6..)));
    let annotations = keys(image.annotations.as_ref()).filter(|_| takes);
    annotations.map(|key| (key.to_owned(), "")).collect()
}

/// Bytes of text in the configuration.
#[expect(
    clippy::zero_sized_map_values,
    reason = "JSON has no sets: these are objects of empty objects"
)]
fn text(image: &Image) -> usize {
    let map = |map: &Option<BTreeMap<String, String>>| -> usize {
        map.iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
    };
    let labels = map(&image.labels);
    let Some(config) = &image.config else { return labels + map(&image.annotations) };
    let Config { user, exposed_ports, env, entrypoint, cmd, volumes, .. } = config;
    let Config { working_dir, labels: own, stop_signal, .. } = config;
    let list =
        |list: &Option<Vec<String>>| -> usize { list.iter().flatten().map(String::len).sum() };
    let names = [exposed_ports, volumes].into_iter().flatten().flat_map(BTreeMap::keys);
    let single = [user, working_dir, stop_signal].into_iter().flatten();
    map(&image.annotations)
        // Podman reports the same labels twice.
        + labels.max(map(own))
        + [env, entrypoint, cmd].into_iter().map(list).sum::<usize>()
        + names.chain(single).map(String::len).sum::<usize>()
}

/// A key or value of an image in quotes, bounded, and without anything that would change a terminal
/// or break the line it is shown in.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests;
