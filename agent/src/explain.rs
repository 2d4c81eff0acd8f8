//! Why an app is in the state it is in, and what happens next: state → words. Pure.

use buddo_shared::manifest::RunState;
use buddo_shared::report::{Health, Phase};
use serde::{Deserialize, Serialize};

use crate::picture::DeploymentPicture;
use crate::ports::Target;

/// An app's state in words, one sentence or two each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which app.
    pub app: String,
    /// What is the case.
    pub state: String,
    /// Why.
    pub why: String,
    /// What visitors see.
    pub visitors: String,
    /// What happens next.
    pub next: String,
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}\n\nWhy       {}\nVisitors  {}\nNext      {}",
            self.app, self.state, self.why, self.visitors, self.next
        )
    }
}

/// Explains one deployment.
pub fn explain(app: &DeploymentPicture) -> Explanation {
    let name = app.subdomain.clone().unwrap_or_else(|| app.status.id.to_string());
    Explanation {
        app: name,
        state: state(app),
        why: why(app),
        visitors: visitors(app),
        next: next(app),
    }
}

fn state(app: &DeploymentPicture) -> String {
    let revision = app.status.revision;
    match app.status.phase {
        Phase::Accepted => format!("is accepted; revision {revision} has no container yet"),
        Phase::Pulling => format!("is being deployed: the image of revision {revision} is pulled"),
        Phase::Starting => format!("is being started: revision {revision}"),
        Phase::Probing => {
            format!("is being probed: revision {revision} runs, has not answered yet")
        }
        Phase::Routing => {
            format!("answers; the route or certificate of revision {revision} is made")
        }
        Phase::Live => format!("is live with revision {revision}"),
        Phase::Stopping => "is being stopped".to_owned(),
        Phase::Stopped => "is stopped".to_owned(),
        Phase::Failed => format!("failed: revision {revision} was given up"),
    }
}

fn why(app: &DeploymentPicture) -> String {
    if let Some(failure) = &app.status.failure {
        return format!("{}. To mend it: {}.", failure.cause, failure.fix);
    }
    if let Some(failure) = &app.given_up {
        return format!("its deploy failed: {}. To mend it: {}.", failure.cause, failure.fix);
    }
    match (app.run, app.status.phase) {
        (None, _) => "its operator destroyed it".to_owned(),
        (Some(RunState::Stopped), _) => "its operator stopped it".to_owned(),
        (Some(RunState::Suspended), _) => "the platform suspended it".to_owned(),
        (Some(RunState::Running), Phase::Live) => match app.status.health {
            Health::Healthy => "its container answers probes".to_owned(),
            Health::Unknown => "it served before the agent came back, and runs".to_owned(),
            Health::Unhealthy => "its container runs, but fails its probes".to_owned(),
        },
        (Some(RunState::Running), _) => {
            let problem = app.containers.iter().find_map(|container| container.problem.as_ref());
            problem.map_or_else(
                || "the document wants it to run, and it is on its way".to_owned(),
                |problem| format!("the last probe failed: {problem}"),
            )
        }
    }
}

fn visitors(app: &DeploymentPicture) -> String {
    match (&app.target, app.status.serving) {
        (Some(Target::Live { addresses }), Some(serving)) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!("reach revision {serving} at {}", addresses.join(", "))
        }
        (Some(Target::Live { .. }), None) => "reach its container".to_owned(),
        (Some(Target::Hold), _) => "wait up to 10 seconds for a container that answers".to_owned(),
        (Some(Target::Stopped), _) => "see the page that says the app is stopped".to_owned(),
        (Some(Target::Suspended), _) => "see the page that says the app is suspended".to_owned(),
        (None, _) => "see the page that knows no such app".to_owned(),
    }
}

fn next(app: &DeploymentPicture) -> String {
    if !app.doing.is_empty() {
        let waiting = if app.planned.is_empty() { "" } else { "; more is planned after that" };
        return format!("now: {}{waiting}", app.doing.join(", "));
    }
    if !app.planned.is_empty() {
        return format!("about to {}", app.planned.join(", then "));
    }
    let look = app.next_look_ms.map(|ms| {
        let seconds = ms.div_ceil(1_000);
        format!(" It is looked at again within {seconds} s.")
    });
    let words = match app.status.phase {
        Phase::Live => "nothing: it is as it shall be.",
        Phase::Stopped => "nothing, until its operator starts it.",
        Phase::Failed => "this revision is not tried again; the next deploy or restart is.",
        Phase::Probing => "it is probed until it answers or its start deadline passes.",
        Phase::Routing => "the agent makes a handshake until a certificate is served.",
        Phase::Stopping => "its container leaves once its last requests are answered.",
        Phase::Accepted | Phase::Pulling | Phase::Starting => "the agent goes on with it.",
    };
    format!("{words}{}", look.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use buddo_shared::id::{DeploymentId, Revision};
    use buddo_shared::report::{DeploymentStatus, Failure};
    use uuid::Uuid;

    use super::*;

    fn picture(phase: Phase, failure: Option<Failure>) -> DeploymentPicture {
        DeploymentPicture {
            subdomain: Some("blog".to_owned()),
            host: Some("blog.example.com".to_owned()),
            run: Some(RunState::Running),
            status: DeploymentStatus {
                id: DeploymentId::new(Uuid::from_u128(1)),
                revision: Revision::new(2),
                phase,
                serving: Some(Revision::new(1)),
                health: Health::Healthy,
                checked_at: None,
                digest: None,
                failure,
                container: None,
                put_back: None,
            },
            given_up: None,
            guarded_s: None,
            target: Some(Target::Live { addresses: vec![[127, 64, 0, 1].into()] }),
            containers: Vec::new(),
            doing: Vec::new(),
            planned: Vec::new(),
            next_look_ms: None,
        }
    }

    #[test]
    fn a_failed_update_says_why_what_to_do_and_who_serves() {
        let failure = crate::plan::words::never_healthy(
            buddo_shared::port::Port::DEFAULT,
            60,
            Some("connection refused"),
        );
        let words = explain(&picture(Phase::Failed, Some(failure))).to_string();
        for part in [
            "revision 2 was given up",
            "connection refused",
            "0.0.0.0:3000",
            "reach revision 1",
            "not tried again",
        ] {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
    }

    #[test]
    fn an_app_whose_deploy_failed_is_not_said_to_be_stopped_by_its_operator() {
        let mut app = picture(Phase::Stopped, None);
        app.run = Some(RunState::Stopped);
        assert_eq!(explain(&app).why, "its operator stopped it");
        app.given_up = Some(crate::plan::words::host_full());
        assert!(explain(&app).why.starts_with("its deploy failed: the host has no free address"));
    }

    #[test]
    fn what_is_done_now_comes_before_what_is_planned() {
        let mut app = picture(Phase::Pulling, None);
        app.doing = vec!["have the image".to_owned()];
        app.planned = vec!["start it".to_owned()];
        assert_eq!(explain(&app).next, "now: have the image; more is planned after that");
        app.doing.clear();
        assert_eq!(explain(&app).next, "about to start it");
    }
}
