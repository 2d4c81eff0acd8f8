//! `status`, `explain`, `document`, `routes`, `events`: query the running agent, and show its
//! answer on standard output, for people or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use buddo_runtime::uri::escape;
use buddo_shared::report::{Report, ReportBody};
use buddo_shared::terminal::{clean, clean_lines, escape_json};

use crate::config::Config;
use crate::local::client;
use crate::local::explain::Explanation;
use crate::model::snapshot::HostSnapshot;
use crate::ports::RouteFiles;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Status,
    /// Why one app is in its state.
    Explain(String),
    /// The document in force.
    Document,
    Routes,
    Events,
}

/// Queries, and prints the answer.
pub async fn show(config: &Config, question: &Question, json: bool) -> Result<()> {
    let path = match question {
        Question::Status => "/v1/status".to_owned(),
        Question::Explain(app) => format!("/v1/explain?app={}", escape(app)),
        Question::Document => "/v1/document".to_owned(),
        Question::Routes => "/v1/routes".to_owned(),
        Question::Events => "/v1/events".to_owned(),
    };
    let answer = client::get(&config.socket, &path).await?;
    let text = if json || *question == Question::Document {
        let value: serde_json::Value = read(&answer)?;
        let json = serde_json::to_string_pretty(&value).context("cannot write JSON")?;
        escape_json(&json).into_owned()
    } else {
        match question {
            Question::Status | Question::Document => status(&read(&answer)?),
            Question::Explain(_) => read::<Explanation>(&answer)?.to_string(),
            Question::Routes => routes(&read(&answer)?),
            Question::Events => events(&read::<Vec<Report>>(&answer)?),
        }
    };
    writeln!(std::io::stdout().lock(), "{}", text.trim_end()).context("cannot write the answer")
}

fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer)
        .context("the agent's answer is of another version; restart the agent")
}

fn status(snapshot: &HostSnapshot) -> String {
    let host = &snapshot.host;
    let mut text = format!("agent {}", clean(&host.agent_version));
    if let Some(version) = &host.podman_version {
        let _ = write!(text, ", Podman {}", clean(version));
    }
    if let Some(version) = &host.caddy_version {
        let _ = write!(text, ", Caddy {}", clean(version));
    }
    match host.document {
        Some(generation) => {
            let stale = if host.stale { " (expired; apps run on)" } else { "" };
            let _ = write!(text, ", document {generation}{stale}");
        }
        None if snapshot.joined => text.push_str(", no document yet"),
        None => {}
    }
    text.push('\n');
    for warning in &host.warnings {
        let _ = writeln!(text, "warning: {}", clean(warning));
    }
    let rows: Vec<[String; 6]> = snapshot
        .deployments
        .iter()
        .map(|app| {
            let status = &app.status;
            let serving = status.serving.map_or_else(|| "-".to_owned(), |r| format!("r{r}"));
            [
                app.subdomain
                    .as_deref()
                    .map_or_else(|| status.id.to_string(), |n| clean(n).into_owned()),
                format!("{:?}", status.phase).to_lowercase(),
                format!("r{}", status.revision),
                serving,
                format!("{:?}", status.health).to_lowercase(),
                match status.restarts {
                    0 => "-".to_owned(),
                    times => times.to_string(),
                },
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&table(["APP", "PHASE", "WANTED", "SERVING", "HEALTH", "RESTARTS"], &rows));
    }
    text
}

fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].len()).chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec())).chain(body).collect()
}

fn routes(files: &RouteFiles) -> String {
    files.iter().fold(String::new(), |text, (name, body)| {
        format!("{text}# {}\n{}\n", clean(name), clean_lines(body))
    })
}

fn events(reports: &[Report]) -> String {
    reports.iter().fold(String::new(), |mut text, report| {
        let words = match &report.body {
            ReportBody::Deployment(status) => {
                let why = status.failure.as_ref().map(|f| format!(": {}", f.cause));
                let phase = format!("{:?}", status.phase).to_lowercase();
                format!("{} r{} {phase}{}", status.id, status.revision, why.unwrap_or_default())
            }
            ReportBody::Removed { id } => format!("{id} removed"),
            ReportBody::Host(host) => match host.warnings.as_slice() {
                [] => "host: all is well".to_owned(),
                warnings => format!("host: {}", warnings.join("; ")),
            },
        };
        let _ = writeln!(text, "{} {}", report.at, clean(&words));
        text
    })
}

#[cfg(test)]
mod tests {
    use buddo_shared::report::{DeploymentStatus, Failure, Health, HostStatus, Phase};
    use jiff::Timestamp;

    use super::*;
    use crate::model::snapshot::{ContainerSnapshot, DeploymentSnapshot};

    /// What a registry or an app may say: it sets the title, clears the screen, and imitates
    /// another line.
    const HOSTILE: &str = "no\u{1b}]0;owned\u{7}\u{9b}2J\r\nall is well";

    fn hostile_app() -> DeploymentSnapshot {
        let said = || Failure {
            code: "image_pull_failed".to_owned(),
            cause: HOSTILE.to_owned(),
            fix: HOSTILE.to_owned(),
        };
        DeploymentSnapshot {
            subdomain: Some("blog".to_owned()),
            host: None,
            run: None,
            status: DeploymentStatus {
                id: buddo_shared::id::DeploymentId::new(uuid::Uuid::from_u128(1)),
                revision: buddo_shared::id::Revision::FIRST,
                phase: Phase::Failed,
                serving: None,
                health: Health::Unknown,
                checked_at: None,
                digest: None,
                failure: Some(said()),
                container: None,
                put_back: None,
                restarts: 0,
            },
            given_up: Some(said()),
            guarded_s: None,
            kills: 0,
            retry_s: None,
            target: None,
            containers: vec![ContainerSnapshot {
                name: "a".to_owned(),
                state: "running".to_owned(),
                address: None,
                health: None,
                drains: false,
                problem: Some(HOSTILE.to_owned()),
            }],
            doing: Vec::new(),
            planned: Vec::new(),
            next_look_ms: None,
        }
    }

    #[test]
    fn words_of_registries_and_apps_drive_no_terminal_and_pass_for_no_line() {
        let app = hostile_app();
        let mut snapshot = crate::testing::snapshot(true);
        snapshot.host.warnings = vec![HOSTILE.to_owned()];
        let said = ReportBody::Host(HostStatus {
            warnings: vec![HOSTILE.to_owned()],
            ..snapshot.host.clone()
        });
        let reports = [ReportBody::Deployment(app.status.clone()), said].map(|body| Report {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            body,
        });
        let explained = crate::local::explain::explain(&app, &snapshot.host).to_string();
        let mut unexplained = app.clone();
        (unexplained.status.failure, unexplained.given_up) = (None, None);
        unexplained.run = Some(buddo_shared::manifest::RunState::Running);
        let problem = crate::local::explain::explain(&unexplained, &snapshot.host).to_string();
        snapshot.deployments = vec![app];
        for (text, lines) in
            [(status(&snapshot), 4), (explained, 6), (problem, 6), (events(&reports), 2)]
        {
            assert!(text.contains("all is well"), "{text:?}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            assert_eq!(text.lines().count(), lines, "{text:?}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["blog".to_owned(), "x".to_owned()], ["a".to_owned(), "yy".to_owned()]];
        assert_eq!(table(["APP", "B"], &rows), "APP   B\nblog  x\na     yy\n");
    }

    /// Versions and names are foreign text as well.
    #[test]
    fn no_part_of_an_answer_drives_a_terminal() {
        let said = || HOSTILE.to_owned();
        let mut snapshot = crate::testing::snapshot(true);
        snapshot.host.agent_version = said();
        snapshot.host.podman_version = Some(said());
        snapshot.host.caddy_version = Some(said());
        snapshot.deployments =
            vec![DeploymentSnapshot { subdomain: Some(said()), ..hostile_app() }];
        let explanation = Explanation {
            app: said(),
            state: said(),
            why: said(),
            visitors: said(),
            next: said(),
            host: vec![said()],
        };
        let files = [(said(), "a line\nanother\u{9b}2J".to_owned())].into();
        for (text, lines) in
            [(status(&snapshot), 3), (explanation.to_string(), 6), (routes(&files), 3)]
        {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            assert_eq!(text.trim_end().lines().count(), lines, "{text:?}");
        }
    }
}
