//! Which system calls containers may make: Podman's own profile, without kernel keyrings.
//!
//! Containers have no session keyring of their own (`keyring = false`): all of them see that of
//! Podman's service. Podman's profile omits `add_key` and `request_key` but allows `keyctl`, with
//! which one app could revoke that keyring, use it to communicate with another app, or create
//! keyrings until the user's quota is exhausted. No app is known to need it: Docker's profile does
//! not allow it either.

use std::io;
use std::path::{Path, PathBuf};

use buddo_runtime::durable;
use serde_json::Value;

/// The first that exists is Podman's default (`containers.conf(5)`, `seccomp_profile`).
const PROFILES: [&str; 2] = ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

const KEYS: [&str; 3] = ["add_key", "keyctl", "request_key"];

/// Why containers use Podman's own profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoProfile {
    /// Podman then uses its built-in one.
    #[error(
        "Podman has no seccomp profile in /etc/containers or /usr/share/containers; install the \
         package containers-common, then restart buddo-agent"
    )]
    NoFile,
    #[error(
        "the seccomp profile without them cannot be written to {0}: {1}; fix that (most often the \
         disk is full), then restart buddo-agent"
    )]
    Unwritten(PathBuf, io::Error),
}

/// Writes the profile into `folder`, from what Podman has now; returns its path.
pub(super) fn write(folder: &Path) -> Result<PathBuf, NoProfile> {
    let given = PROFILES.iter().find_map(|profile| std::fs::read(profile).ok());
    write_from(&given.ok_or(NoProfile::NoFile)?, &folder.join("seccomp.json"))
}

/// If it cannot be written, as on a full disk, the one from the agent's last start is as good: it
/// only lacks what Podman's package changed since.
fn write_from(given: &[u8], path: &Path) -> Result<PathBuf, NoProfile> {
    let last = std::fs::read(path).ok();
    let written = render(given).and_then(|profile| {
        if last.as_ref() == Some(&profile) {
            Ok(())
        } else {
            durable::replace(path, &profile, 0o600)
        }
    });
    if let Err(error) = written {
        let usable = last.is_some_and(|last| serde_json::from_slice::<Value>(&last).is_ok());
        if !usable {
            return Err(NoProfile::Unwritten(path.to_owned(), error));
        }
        tracing::warn!(%error, "cannot write the seccomp profile; keeping the previous one");
    }
    Ok(path.to_owned())
}

fn render(given: &[u8]) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&without_keys(serde_json::from_slice(given)?))?)
}

fn without_keys(mut profile: Value) -> Value {
    let names = |rule: &mut Value| {
        let names = rule.get_mut("names").and_then(Value::as_array_mut)?;
        names.retain(|name| !KEYS.iter().any(|key| name == key));
        Some(names.is_empty())
    };
    if let Some(rules) = profile.get_mut("syscalls").and_then(Value::as_array_mut) {
        // A rule without system calls is refused.
        rules.retain_mut(|rule| names(rule) != Some(true));
    }
    profile
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIVEN: &[u8] = br#"{"syscalls":[{"names":["read","keyctl"]}]}"#;

    /// A folder in which nothing can be written, as on a full disk: the name of the temporary file
    /// is taken.
    fn full() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".seccomp.json.tmp")).unwrap();
        let path = folder.path().join("seccomp.json");
        (folder, path)
    }

    #[test]
    fn a_full_disk_keeps_the_previous_profile() {
        let (folder, path) = full();
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(write_from(GIVEN, &path).unwrap(), path);
        // An identical one is not rewritten, and a folder in order is left alone.
        std::fs::write(&path, render(GIVEN).unwrap()).unwrap();
        write_from(GIVEN, &path).unwrap();
        std::fs::remove_dir(folder.path().join(".seccomp.json.tmp")).unwrap();
        write_from(br#"{"syscalls":[]}"#, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), br#"{"syscalls":[]}"#);
    }

    #[test]
    fn without_a_usable_profile_the_error_says_what_to_do() {
        for last in [None, Some("{ torn")] {
            let (_folder, path) = full();
            if let Some(last) = last {
                std::fs::write(&path, last).unwrap();
            }
            let error = write_from(GIVEN, &path).unwrap_err().to_string();
            assert!(error.contains("seccomp.json") && error.contains("restart"), "{error}");
        }
    }

    #[test]
    fn key_syscalls_are_removed_and_all_others_kept() {
        let profile = |names: &[&[&str]]| {
            let rules: Vec<_> = names
                .iter()
                .map(|names| json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": [] }))
                .collect();
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
        };
        let given = profile(&[&["read", "keyctl", "write"], &["keyctl"], &["pkey_alloc"]]);
        assert_eq!(without_keys(given), profile(&[&["read", "write"], &["pkey_alloc"]]));
        assert_eq!(without_keys(json!({ "defaultAction": "x" })), json!({ "defaultAction": "x" }));
    }
}
