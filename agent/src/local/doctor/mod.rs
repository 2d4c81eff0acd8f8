//! `buddo-agent doctor`: is this host fit to run apps, and if not, what is to be done?
//!
//! ```text
//! /proc, files, sockets ──► gather ──► Facts ──► checks (pure) ──► Finding ──► show ──► exit code
//!                        (all the I/O)           (a table)
//! ```
//!
//! It only looks: nothing is changed, and it works while the agent does not run or half of the host
//! is missing. What cannot be learned is reported, never guessed. No secret is read; only the modes
//! of their files are.

mod checks;
mod gather;
mod gathered;
mod root;
mod show;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use buddo_runtime::clock::{Clock as _, SystemClock};
use nix::unistd::{Uid, geteuid};
use serde::Serialize;

use crate::config::Config;

/// How bad it is; the number is the exit code for it alone, as monitoring systems expect of their
/// plug-ins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok = 0,
    /// Apps run, but worse, less safely or not for long.
    Warning = 1,
    /// Apps do not run here, or nobody reaches them.
    Failure = 2,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, which does not change between versions.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    pub says: String,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Gathers, judges, and prints the findings on standard output. A configuration that cannot be used
/// is a finding like others.
pub async fn run(config: Result<Config>, json: bool) -> Result<ExitCode> {
    let findings = examine(geteuid(), config).await;
    let mut out = std::io::stdout().lock();
    let text = if json {
        show::json(&findings).context("cannot write JSON")?
    } else if out.is_terminal() {
        show::table(&findings)
    } else {
        show::lines(&findings)
    };
    out.write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::from(worst(&findings) as u8))
}

async fn examine(user: Uid, config: Result<Config>) -> Vec<Finding> {
    if user.is_root() {
        let arguments = std::env::args_os().skip(1);
        let arguments: Vec<String> =
            arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
        return vec![root::finding(config.as_ref().ok(), &arguments)];
    }
    match config {
        Ok(config) => {
            let facts = Box::pin(gather::gather(&config, SystemClock.now())).await;
            checks::judge(&facts, &config)
        }
        Err(error) => vec![checks::configuration(&format!("{error:#}"))],
    }
}

fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_gets_one_finding_even_with_a_bad_configuration() {
        let bad = || Err(anyhow::anyhow!("cannot read agent.toml"));
        let found = examine(Uid::from_raw(0), bad()).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].says.contains("run me as the agent's user"), "{found:?}");
        let found = examine(Uid::from_raw(991), bad()).await;
        assert!(found[0].says.contains("cannot read agent.toml"), "{found:?}");
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let finding = |severity| Finding { check: "c", severity, says: String::new(), fix: None };
        assert_eq!(worst(&[]) as u8, 0);
        assert_eq!(worst(&[finding(Severity::Ok), finding(Severity::Warning)]) as u8, 1);
        let all = [Severity::Failure, Severity::Warning, Severity::Ok].map(finding);
        assert_eq!(worst(&all) as u8, 2);
    }
}
