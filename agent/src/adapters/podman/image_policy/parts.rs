//! Checks on parts of an image's configuration, for the table: what was found, in words.

use super::super::images::{Config, Image};
use super::quoted;

/// More ports than any serving app listens on; `EXPOSE 1-65535` is one line of an image and 65,535
/// entries in a list.
const MAX_PORTS: u32 = 1_024;

fn of<'a, T>(image: &'a Image, part: impl FnOnce(&'a Config) -> &'a Option<T>) -> Option<&'a T> {
    image.config.as_ref().and_then(|config| part(config).as_ref())
}

fn text<'a>(
    image: &'a Image,
    part: impl FnOnce(&'a Config) -> &'a Option<String>,
) -> Option<&'a str> {
    of(image, part).map(String::as_str).filter(|text| !text.is_empty())
}

fn variables(image: &Image) -> impl Iterator<Item = &str> {
    of(image, |config| &config.env).into_iter().flatten().map(String::as_str)
}

/// `NAME` without a value takes it from Podman's own environment, and `*` takes all of it
/// (`pkg/env`, for `podman run --env`; an image's variables take the same path).
pub(super) fn env_of_host(image: &Image) -> Option<String> {
    let taken = variables(image).find(|variable| !variable.contains('='))?;
    Some(format!("the environment variable {} without a value", quoted(taken)))
}

pub(super) fn env_without_name(image: &Image) -> Option<String> {
    // Podman trims spaces and tabs before a name, but only after it checked for one.
    let nameless = |variable: &&str| variable.trim_start_matches([' ', '\t']).starts_with('=');
    variables(image).find(nameless).map(|_| "an environment variable without a name".to_owned())
}

pub(super) fn env(image: &Image) -> Option<String> {
    variables(image).next().map(|_| "environment variables".to_owned())
}

pub(super) fn other_system(image: &Image) -> Option<String> {
    let os = image.os.as_deref().filter(|os| !os.is_empty() && *os != "linux")?;
    Some(format!("the operating system {}", quoted(os)))
}

pub(super) fn stop_signal(image: &Image) -> Option<String> {
    let signal = text(image, |config| &config.stop_signal)?;
    Some(format!("the stop signal {}", quoted(signal)))
}

pub(super) fn unusable_stop_signal(image: &Image) -> Option<String> {
    let signal = text(image, |config| &config.stop_signal)?;
    if is_signal(signal) { None } else { stop_signal(image) }
}

/// As Podman parses it (`pkg/signal`), and not above what the kernel has.
fn is_signal(text: &str) -> bool {
    const NAMES: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR \
                         QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM \
                         WINCH XCPU XFSZ RTMIN RTMAX";
    let text = text.strip_prefix('-').unwrap_or(text);
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |from: &str, most: u8| {
        let offset = name.strip_prefix(from).and_then(|offset| offset.parse::<u8>().ok());
        offset.is_some_and(|offset| (1..=most).contains(&offset))
    };
    NAMES.split(' ').any(|known| known == name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

fn ports(image: &Image) -> impl Iterator<Item = &str> {
    of(image, |config| &config.exposed_ports)
        .into_iter()
        .flat_map(|ports| ports.keys())
        .map(|p| &**p)
}

/// How many ports an entry such as `8000-8009/tcp` names; `None` if Podman would reject it.
fn count(entry: &str) -> Option<u32> {
    let (range, protocol) = entry.split_once('/').unwrap_or((entry, "tcp"));
    let known = ["", "tcp", "udp"].into_iter().any(|known| protocol.eq_ignore_ascii_case(known));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (known && first > 0 && first <= last).then(|| u32::from(last - first) + 1)
}

pub(super) fn unusable_port(image: &Image) -> Option<String> {
    let unusable = ports(image).find(|entry| count(entry).is_none())?;
    Some(format!("the exposed port {}", quoted(unusable)))
}

pub(super) fn too_many_ports(image: &Image) -> Option<String> {
    let all = ports(image).filter_map(count).fold(0, u32::saturating_add);
    (all > MAX_PORTS).then(|| format!("{all} exposed ports, {MAX_PORTS} are allowed"))
}

pub(super) fn port(image: &Image) -> Option<String> {
    ports(image).next().map(|entry| format!("the exposed port {}", quoted(entry)))
}

pub(super) fn volume(image: &Image) -> Option<String> {
    let path = of(image, |config| &config.volumes)?.keys().next()?;
    Some(format!("the volume {}", quoted(path)))
}

fn words(image: &Image) -> impl Iterator<Item = &str> {
    let entrypoint = of(image, |config| &config.entrypoint).into_iter().flatten();
    entrypoint.chain(of(image, |config| &config.cmd).into_iter().flatten()).map(String::as_str)
}

/// Whether Podman might take the command for an init system: it checks the first word, and a later
/// one if a shell comes first.
pub(super) fn init(image: &Image) -> Option<String> {
    let looks = |word: &str| {
        matches!(word, "/sbin/init" | "/usr/sbin/init" | "/usr/local/sbin/init")
            || word.rsplit('/').next() == Some("systemd")
    };
    let found = words(image).find(|word| looks(word))?;
    Some(format!("the command {}", quoted(found)))
}

pub(super) fn command(image: &Image) -> Option<String> {
    words(image).next().map(|word| format!("the command {}", quoted(word)))
}

pub(super) fn user(image: &Image) -> Option<String> {
    text(image, |config| &config.user).map(|user| format!("the user {}", quoted(user)))
}

pub(super) fn working_dir(image: &Image) -> Option<String> {
    let folder = text(image, |config| &config.working_dir)?;
    Some(format!("the working directory {}", quoted(folder)))
}
