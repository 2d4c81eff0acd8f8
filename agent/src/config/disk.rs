//! The keys of `[disk]`, `[pull]`, `[podman] max_containers` and `[metrics]`.

use std::time::Duration;

use serde::Deserialize;

use super::file::ConfigError;
use super::{Disk, Metrics, Pull};

const MIB: u64 = 1024 * 1024;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDisk {
    high_percent: Option<u8>,
    low_percent: Option<u8>,
    floor_mb: Option<u64>,
    keep_unused_hours: Option<u64>,
    collect_images: Option<bool>,
    reserve_mb: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPull {
    max_image_mb: Option<u64>,
}

pub(super) fn disk(raw: &RawDisk) -> Result<Disk, ConfigError> {
    let high_percent = raw.high_percent.unwrap_or(85);
    if !(2..=99).contains(&high_percent) {
        return Err(ConfigError::Value {
            key: "disk.high_percent",
            problem: format!("is {high_percent}"),
            fix: "write 2 to 99",
        });
    }
    let low_percent = raw.low_percent.unwrap_or(high_percent.saturating_sub(5).max(1));
    if low_percent == 0 || low_percent >= high_percent {
        return Err(ConfigError::Value {
            key: "disk.low_percent",
            problem: format!("is {low_percent}, and `disk.high_percent` is {high_percent}"),
            fix: "write a number from 1 to below `disk.high_percent`",
        });
    }
    let floor = within("disk.floor_mb", raw.floor_mb.unwrap_or(1024), 16..=1_048_576)? * MIB;
    let hours = within("disk.keep_unused_hours", raw.keep_unused_hours.unwrap_or(24), 0..=8_760)?;
    let reserve = within("disk.reserve_mb", raw.reserve_mb.unwrap_or(64), 0..=4_096)? * MIB;
    Ok(Disk {
        reserve,
        high_percent,
        low_percent,
        floor,
        keep_unused: Duration::from_hours(hours),
        collect: raw.collect_images.unwrap_or(true),
    })
}

pub(super) fn pull(raw: &RawPull) -> Result<Pull, ConfigError> {
    let megabytes = raw.max_image_mb.unwrap_or(4096);
    Ok(Pull { max_image: within("pull.max_image_mb", megabytes, 1..=1_048_576)? * MIB })
}

/// Podman needs one lock for each container, pod and volume: it has 2,048 unless its `num_locks`
/// says otherwise. Some are left for those that are not ours.
pub(super) fn max_containers(raw: Option<u32>) -> Result<usize, ConfigError> {
    let given = u64::from(raw.unwrap_or(1_900));
    let checked = within("podman.max_containers", given, 1..=1_000_000)?;
    Ok(usize::try_from(checked).unwrap_or(usize::MAX))
}

pub(super) fn metrics(raw: Metrics) -> Result<Metrics, ConfigError> {
    match raw.listen {
        Some(address) if !address.ip().is_loopback() => Err(ConfigError::Value {
            key: "metrics.listen",
            problem: format!("is {address}, which other machines can reach"),
            fix: "use an address of 127.0.0.0/8 or ::1, and scrape it from this host",
        }),
        _ => Ok(raw),
    }
}

fn within(
    key: &'static str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value {
        key,
        problem: format!("is {value}, outside {} to {}", range.start(), range.end()),
        fix: "write a number in that range",
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Environment};
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let environment = Environment {
            home: Some("/home/buddo".into()),
            runtime_dir: Some("/run/user/7".into()),
            ..Environment::default()
        };
        Config::parse(text, &environment)
    }

    #[test]
    fn defaults_are_consistent_and_the_low_mark_follows_the_high_one() {
        let config = parse("").unwrap();
        assert_eq!((config.disk.high_percent, config.disk.low_percent), (85, 80));
        assert_eq!(config.disk.floor, 1024 * MIB);
        assert_eq!(config.disk.keep_unused, Duration::from_hours(24));
        assert_eq!(config.disk.reserve, 64 * MIB);
        assert_eq!(parse("[disk]\nreserve_mb = 0").unwrap().disk.reserve, 0);
        assert_eq!(config.pull.max_image, 4096 * MIB);
        assert_eq!(config.podman.max_containers, 1_900);
        assert_eq!(config.metrics.listen, None);
        assert_eq!(parse("[disk]\nhigh_percent = 60").unwrap().disk.low_percent, 55);
    }

    #[test]
    fn invalid_values_name_their_key() {
        for (text, expected) in [
            ("[disk]\nhigh_percent = 100", "disk.high_percent"),
            ("[disk]\nlow_percent = 85", "disk.low_percent"),
            ("[disk]\nlow_percent = 0", "disk.low_percent"),
            ("[disk]\nfloor_mb = 1", "disk.floor_mb"),
            ("[disk]\nfloor_mb = 18446744073709", "disk.floor_mb"),
            ("[disk]\nkeep_unused_hours = 9000", "disk.keep_unused_hours"),
            ("[disk]\nreserve_mb = 5000", "disk.reserve_mb"),
            ("[pull]\nmax_image_mb = 0", "pull.max_image_mb"),
            ("[podman]\nmax_containers = 0", "podman.max_containers"),
            ("[metrics]\nlisten = \"0.0.0.0:9100\"", "metrics.listen"),
        ] {
            match parse(text).unwrap_err() {
                ConfigError::Value { key, .. } => assert_eq!(key, expected),
                other => panic!("{text}: {other}"),
            }
        }
    }
}
