//! `buddo-agent doctor`: is this host fit to run apps, and if not, what is to be done?
//!
//! ```text
//! /proc, files, sockets ──► gather ──► Facts ──► checks (pure) ──► Finding ──► show ──► exit code
//!                        (all the I/O)           (a table)
//! ```
//!
//! It only looks: nothing is changed, and it works while the agent does not run or half of the host
//! is missing. What cannot be learned is said, never guessed. No secret is read but to see its
//! file's mode.

mod checks;
mod facts;
mod gather;
mod show;

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::ports::Clock as _;

/// How bad it is; the number is the exit code that it alone would give. The numbers are those that
/// monitoring systems expect of their plug-ins.
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
    /// What was seen.
    pub says: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Looks, judges, and prints the findings on standard output. A configuration that cannot be used
/// is a finding like others.
pub async fn run(config: Result<Config>, json: bool) -> Result<ExitCode> {
    let findings = match config {
        Ok(config) => {
            let facts = Box::pin(gather::gather(&config, SystemClock.now())).await;
            checks::judge(&facts, &config)
        }
        Err(error) => vec![checks::configuration(&format!("{error:#}"))],
    };
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

fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let finding = |severity| Finding { check: "c", severity, says: String::new(), fix: None };
        assert_eq!(worst(&[]) as u8, 0);
        assert_eq!(worst(&[finding(Severity::Ok), finding(Severity::Warning)]) as u8, 1);
        let all = [Severity::Failure, Severity::Warning, Severity::Ok].map(finding);
        assert_eq!(worst(&all) as u8, 2);
    }
}
