//! Limits on what is stored of a host's status: the host may be compromised.

use buddo_shared::host_wire::report::{Failure, HostStatus};

use super::judge::one_line;

/// Maximum number of stored warnings.
const WARNINGS: usize = 32;
/// Maximum characters of a version.
const VERSION: usize = 64;

/// The status, with number and length of its lines limited.
pub(super) fn bounded(status: &HostStatus) -> HostStatus {
    let version = |text: &String| one_line(text).chars().take(VERSION).collect::<String>();
    HostStatus {
        agent_version: version(&status.agent_version),
        podman_version: status.podman_version.as_ref().map(version),
        caddy_version: status.caddy_version.as_ref().map(version),
        warnings: status.warnings.iter().take(WARNINGS).map(|line| one_line(line)).collect(),
        lacks: status.lacks.as_ref().map(|failure| {
            Box::new(Failure {
                code: version(&failure.code),
                cause: one_line(&failure.cause),
                fix: one_line(&failure.fix),
            })
        }),
        ..status.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm_67_a_host_status_is_bounded_and_has_no_control_characters() {
        let long = "x\u{1b}[2J\n".repeat(100_000);
        let status = HostStatus {
            agent_version: long.clone(),
            podman_version: Some(long.clone()),
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb: 1,
            allocatable_mb: None,
            cpu_millicores: 1,
            warnings: vec![long.clone(); 1000],
            lacks: Some(Failure { code: long.clone(), cause: long.clone(), fix: long }.into()),
        };
        let kept = serde_json::to_string(&bounded(&status)).unwrap();
        assert!(kept.len() < 32 * 1024, "{}", kept.len());
        assert!(!kept.contains("\\u001b") && !kept.contains("\\n"));
    }
}
