//! `status`, `explain`, `document`, `routes`, `events`: query the running agent, and show its
//! answer on standard output, for people or as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use buddo_runtime::uri::escape;
use buddo_shared::host_wire::report::{Health, Report, ReportBody, ServiceStatus};
use buddo_shared::terminal::{clean, clean_lines, escape_json};

use crate::config::Config;
use crate::local::client;
use crate::local::explain::Explanation;
use crate::model::snapshot::{DeploymentSnapshot, HostSnapshot};
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
    let rows: Vec<[String; 6]> = snapshot.deployments.iter().flat_map(rows).collect();
    if !rows.is_empty() {
        text.push_str(&table(["APP", "PHASE", "WANTED", "SERVING", "HEALTH", "RESTARTS"], &rows));
    }
    text
}

/// The deployment's row, and one for each of its services where they have to be told apart.
fn rows(app: &DeploymentSnapshot) -> Vec<[String; 6]> {
    let status = &app.status;
    let name = app.subdomain.as_deref().map(|name| clean(name).into_owned());
    let serving = status.serving.map(|revision| format!("r{revision}"));
    let own = [
        name.unwrap_or_else(|| status.id.to_string()),
        lowercase(status.phase),
        format!("r{}", status.revision),
        serving.unwrap_or_else(|| "-".to_owned()),
        lowercase(status.health),
        restarts(status.restarts),
    ];
    std::iter::once(own).chain(status.named_services().iter().map(service_row)).collect()
}

fn service_row(service: &ServiceStatus) -> [String; 6] {
    let replicas = &service.replicas;
    let count = if replicas.len() > 1 { format!(" ({})", replicas.len()) } else { String::new() };
    // While it is being replaced, its replicas may serve different content.
    let serving: BTreeSet<_> = replicas.iter().filter_map(|replica| replica.serving).collect();
    let serving: Vec<_> = serving.iter().map(|revision| format!("r{revision}")).collect();
    let all = |health| replicas.iter().all(|replica| replica.health == health);
    let any = |health| replicas.iter().any(|replica| replica.health == health);
    let health = match () {
        () if any(Health::Unhealthy) => Health::Unhealthy,
        () if all(Health::Healthy) => Health::Healthy,
        () => Health::Unknown,
    };
    [
        format!("  {}{count}", service.name),
        lowercase(service.phase),
        format!("r{}", service.revision),
        if serving.is_empty() { "-".to_owned() } else { serving.join(",") },
        lowercase(health),
        restarts(replicas.iter().map(|replica| replica.restarts).sum()),
    ]
}

fn lowercase(word: impl std::fmt::Debug) -> String {
    format!("{word:?}").to_lowercase()
}

fn restarts(times: u32) -> String {
    if times == 0 { "-".to_owned() } else { times.to_string() }
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
                let phase = lowercase(status.phase);
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
    use buddo_shared::host_wire::report::{
        DeploymentStatus, Failure, HostStatus, Phase, ReplicaStatus,
    };
    use buddo_shared::model::id::{DeploymentId, Revision};
    use buddo_shared::model::workload::ReplicaIndex;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::snapshot::ContainerSnapshot;

    /// What a registry or an app may say: it sets the title, clears the screen, and imitates
    /// another line.
    const HOSTILE: &str = "no\u{1b}]0;owned\u{7}\u{9b}2J\r\nall is well";

    fn hostile_app() -> DeploymentSnapshot {
        let said = || Failure {
            code: "image_pull_failed".to_owned(),
            cause: HOSTILE.to_owned(),
            fix: HOSTILE.to_owned(),
        };
        let service = ServiceStatus {
            name: "worker".parse().unwrap(),
            revision: Revision::FIRST,
            phase: Phase::Failed,
            digest: None,
            failure: Some(said()),
            replicas: Vec::new(),
        };
        let status = DeploymentStatus {
            phase: Phase::Failed,
            serving: None,
            health: Health::Unknown,
            failure: Some(said()),
            services: vec![service],
            ..crate::testing::status(DeploymentId::new(Uuid::from_u128(1)))
        };
        DeploymentSnapshot {
            run: None,
            given_up: Some(said()),
            containers: vec![ContainerSnapshot {
                name: "a".to_owned(),
                state: "running".to_owned(),
                address: None,
                health: None,
                drains: false,
                problem: Some(HOSTILE.to_owned()),
            }],
            ..crate::testing::deployment_snapshot(status)
        }
    }

    #[test]
    fn services_have_their_own_lines_where_they_have_to_be_told_apart() {
        let replica = |number: u16, serving: u32| ReplicaStatus {
            replica: ReplicaIndex::new(number),
            serving: Some(Revision::new(serving)),
            health: Health::Healthy,
            checked_at: None,
            container: None,
            restarts: u32::from(number),
        };
        let service = |name: &str, replicas| ServiceStatus {
            name: name.parse().unwrap(),
            revision: Revision::new(2),
            phase: Phase::Live,
            digest: None,
            failure: None,
            replicas,
        };
        let mut snapshot = crate::testing::snapshot(true);
        let id = DeploymentId::new(Uuid::from_u128(1));
        let mut shown = |services| {
            let told = DeploymentStatus { services, ..crate::testing::status(id) };
            snapshot.deployments = vec![crate::testing::deployment_snapshot(told)];
            status_rows(&snapshot)
        };
        assert_eq!(shown(vec![service("app", vec![replica(0, 2)])]), ["blog live r1 r1 healthy -"]);
        let several = vec![
            service("app", vec![replica(0, 2)]),
            service("db", vec![replica(1, 1), replica(2, 2)]),
        ];
        assert_eq!(
            shown(several),
            [
                "blog live r1 r1 healthy -",
                "app live r2 r2 healthy -",
                "db (2) live r2 r1,r2 healthy 3"
            ]
        );
    }

    /// The rows below the table's head, with single spaces.
    fn status_rows(snapshot: &HostSnapshot) -> Vec<String> {
        let text = status(snapshot);
        let rows = text.lines().skip_while(|line| !line.starts_with("APP ")).skip(1);
        rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn hostile_text_adds_no_control_characters_or_lines() {
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
        unexplained.run = Some(buddo_shared::host_wire::manifest::RunState::Running);
        let problem = crate::local::explain::explain(&unexplained, &snapshot.host).to_string();
        snapshot.deployments = vec![app];
        for (text, lines) in
            [(status(&snapshot), 5), (explained, 7), (problem, 7), (events(&reports), 2)]
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
    fn no_field_of_an_answer_has_control_characters() {
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
            services: vec![said()],
            limits: vec![said()],
            host: vec![said()],
        };
        let files = [(said(), "a line\nanother\u{9b}2J".to_owned())].into();
        for (text, lines) in
            [(status(&snapshot), 4), (explanation.to_string(), 8), (routes(&files), 3)]
        {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            assert_eq!(text.trim_end().lines().count(), lines, "{text:?}");
        }
    }
}
