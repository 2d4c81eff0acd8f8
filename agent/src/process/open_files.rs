//! File descriptors. Each watched container takes one for as long as it runs, besides those for
//! probes, Podman's socket, the coordinator and the database.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Raises the limit as far as this process may: a service manager's default is a soft limit of
/// 1,024, for programs that use `select(2)`, which this one does not. Returns the limit then in
/// force.
pub fn raise() -> nix::Result<rlim_t> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many containers this process can watch: the other half is for everything else.
pub fn watches() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(soft / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raises_the_soft_limit_to_the_hard_limit() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(1_024), hard).unwrap();
        assert_eq!(raise(), Ok(hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
        assert_eq!(u64::try_from(watches()).unwrap(), hard / 2);
    }

    #[test]
    fn fm_57_the_units_allow_65536_open_files() {
        for unit in [
            include_str!("../../../systemd/user/buddo-agent.service"),
            include_str!("../../../systemd/user/buddo-resolver.service"),
            include_str!("../../../systemd/user/buddo-podman.service"),
        ] {
            let limit = unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE="));
            assert_eq!(limit, Some("65536"), "{unit}");
        }
    }
}
