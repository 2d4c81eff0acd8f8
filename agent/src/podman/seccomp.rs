//! Which system calls containers may make: Podman's own profile, without the kernel's keys.
//!
//! Containers have no session keyring of their own (`keyring = false`): all of them see that of Podman's
//! service. Podman's profile leaves out `add_key` and `request_key` but allows `keyctl`, by which one
//! app could revoke that keyring, meet another app there, or make keyrings until the user's quota is
//! full. None of the apps is known to need it: Docker's profile does not allow it either.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::durable;

/// The first that exists is Podman's default (`containers.conf(5)`, `seccomp_profile`).
const PROFILES: [&str; 2] = ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

const KEYS: [&str; 3] = ["add_key", "keyctl", "request_key"];

/// Writes the profile into `folder`, from what Podman has now; where it lies. `None`: Podman has no
/// file of its own, and then goes by a profile that is built in.
pub(super) fn write(folder: &Path) -> io::Result<Option<PathBuf>> {
    let Some(text) = PROFILES.iter().find_map(|profile| std::fs::read(profile).ok()) else {
        return Ok(None);
    };
    let profile = serde_json::to_vec(&without_keys(serde_json::from_slice(&text)?))?;
    let path = folder.join("seccomp.json");
    durable::replace(&path, &profile, 0o600)?;
    Ok(Some(path))
}

fn without_keys(mut profile: Value) -> Value {
    let names = |rule: &mut Value| {
        let names = rule.get_mut("names").and_then(Value::as_array_mut)?;
        names.retain(|name| !KEYS.iter().any(|key| name == key));
        Some(names.is_empty())
    };
    if let Some(rules) = profile.get_mut("syscalls").and_then(Value::as_array_mut) {
        // A rule for nothing is refused.
        rules.retain_mut(|rule| names(rule) != Some(true));
    }
    profile
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_left_out_and_all_else_stays() {
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
