//! What root is told: nothing about the host, only which user to run this as. Root has its own
//! home, runtime folder and files, so that advice for root (to own the agent's keys, say) would
//! break a working agent.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::{Finding, Severity};
use crate::config::Config;

/// The user created by the package.
const PACKAGED: &str = "buddo";

/// The user that the agent runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agent {
    name: String,
    uid: u32,
    home: PathBuf,
}

/// The only finding for root, for a call with `arguments`.
pub(super) fn finding(config: Option<&Config>, arguments: &[String]) -> Finding {
    told(agent(config).as_ref(), arguments)
}

/// The owner of the agent's state, or else the package's user.
fn agent(config: Option<&Config>) -> Option<Agent> {
    use std::os::unix::fs::MetadataExt as _;
    let state = config.and_then(|config| std::fs::metadata(&config.state_dir).ok());
    let owner = state.map(|state| Uid::from_raw(state.uid())).filter(|owner| !owner.is_root());
    let owner = owner.and_then(|owner| User::from_uid(owner).ok().flatten());
    let user = owner.or_else(|| User::from_name(PACKAGED).ok().flatten())?;
    Some(Agent { name: user.name, uid: user.uid.as_raw(), home: user.dir })
}

fn told(agent: Option<&Agent>, arguments: &[String]) -> Finding {
    let (name, uid, home) = match agent {
        Some(Agent { name, uid, home }) => (word(name), uid.to_string(), path(home)),
        None => ("USER".to_owned(), "$(id -u USER)".to_owned(), "HOME_OF_USER".to_owned()),
    };
    let arguments: Vec<String> = arguments.iter().map(|argument| word(argument)).collect();
    Finding {
        check: "user",
        severity: Severity::Failure,
        says: "this is root: run me as the agent's user; nothing was looked at".to_owned(),
        fix: Some(format!(
            "`sudo -u {name} env HOME={home} XDG_RUNTIME_DIR=/run/user/{uid} buddo-agent {}`",
            arguments.join(" ")
        )),
    }
}

fn path(path: &Path) -> String {
    word(&path.to_string_lossy())
}

/// Quoted so that a shell takes it for one word.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_told_to_run_the_command_as_the_agents_user() {
        let buddo = Agent { name: "buddo".to_owned(), uid: 991, home: "/var/lib/buddo".into() };
        let asked = ["doctor", "--config", "/etc/buddo/my agent.toml"].map(str::to_owned);
        let Finding { check, severity, says, fix } = told(Some(&buddo), &asked);
        assert_eq!((check, severity), ("user", Severity::Failure));
        assert!(says.contains("run me as the agent's user"), "{says}");
        assert_eq!(
            fix.unwrap(),
            "`sudo -u buddo env HOME=/var/lib/buddo XDG_RUNTIME_DIR=/run/user/991 buddo-agent \
             doctor --config '/etc/buddo/my agent.toml'`"
        );
    }

    #[test]
    fn without_an_agent_user_the_command_has_placeholders() {
        let fix = told(None, &["doctor".to_owned()]).fix.unwrap();
        assert!(fix.starts_with("`sudo -u USER env HOME=HOME_OF_USER "), "{fix}");
    }
}
