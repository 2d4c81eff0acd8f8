//! `buddo revisions NAME` and `buddo rollback NAME [REV]`.

use buddo_shared::api::deploy::{Revision, RevisionList, Rollback};

use super::status::time;
use super::{Context, follow, resolve};
use crate::args::FollowArgs;
use crate::client::IdempotencyKey;
use crate::error::CliError;
use crate::target::Target;
use crate::ui::Table;

/// Characters of a digest that are shown: enough to tell one from another, and to find it.
const DIGEST: usize = "sha256:".len() + 12;

pub(super) async fn list(context: &mut Context<'_>, target: &Target) -> Result<(), CliError> {
    let id = resolve::id(context, target).await?;
    let list = context.api.revisions(id).await?;
    if context.ui.is_json() {
        return context.ui.json(&list);
    }
    context.ui.table(&table(&list))
}

pub(super) async fn roll_back(
    context: &mut Context<'_>,
    target: &Target,
    revision: Option<u32>,
    args: &FollowArgs,
) -> Result<(), CliError> {
    let id = resolve::id(context, target).await?;
    let key = IdempotencyKey(rand::random());
    let deployment = context.api.rollback(id, Rollback { revision }, key).await?;
    if !context.ui.is_json() {
        let name = &deployment.subdomain;
        let number = deployment.revision;
        let to = revision.map_or_else(String::new, |to| format!(" to revision {to}"));
        context
            .ui
            .line(&format!("Rolling deployment \"{name}\" back{to}, as revision {number}..."))?;
    }
    follow::or_not(context, &deployment, args).await
}

/// What is the same in all of them is not shown; `--json` has it.
fn table(RevisionList { revisions }: &RevisionList) -> Table {
    let reasons = revisions.iter().any(|revision| revision.failure.is_some());
    let mut headings = vec!["Revision", "State", "Image", "Digest", "Strategy", "Made"];
    headings.extend(reasons.then_some("Reason"));
    let mut table = Table::new(headings);
    for revision in revisions {
        let mut cells = vec![
            revision.revision.to_string(),
            state(revision),
            revision.container_image.clone(),
            digest(revision),
            revision.strategy.to_string(),
            time(revision.inserted_at),
        ];
        let reason = revision.failure.as_ref().map(|failure| failure.cause.clone());
        cells.extend(reasons.then(|| reason.unwrap_or_default()));
        table.cells(cells);
    }
    table
}

/// Its outcome, in a few words.
fn state(revision: &Revision) -> String {
    let word = match (revision.current, revision.serving, revision.live_at, &revision.failure) {
        (true, true, ..) => "serving",
        (true, false, None, None) => "coming up",
        (true, false, ..) => "current",
        (false, true, ..) => "still serving",
        (false, false, Some(_), Some(_)) => "taken back",
        (false, false, None, Some(_)) => "failed",
        (false, false, Some(_), None) => "was live",
        (false, false, None, None) => "never live",
    };
    match revision.rollback_of {
        Some(to) => format!("{word} (back to {to})"),
        None => word.to_owned(),
    }
}

fn digest(revision: &Revision) -> String {
    let digest = revision.image_digest.as_deref().unwrap_or("unknown");
    digest.chars().take(DIGEST).collect()
}

#[cfg(test)]
mod tests {
    use buddo_shared::api::deploy::Failure;
    use buddo_shared::host_wire::manifest::Strategy;
    use jiff::Timestamp;

    use super::*;
    use crate::ui::testing::{Screen, ui};

    fn revision(number: u32, live: bool, error: Option<&str>) -> Revision {
        let at: Timestamp = "2026-05-21T10:00:00Z".parse().unwrap();
        Revision {
            revision: number,
            container_image: "ghcr.io/me/app:v1".to_owned(),
            image_digest: live.then(|| format!("sha256:{number:064x}")),
            port: 80,
            custom_domain: None,
            strategy: Strategy::Rolling,
            current: false,
            serving: false,
            can_roll_back: live,
            rollback_of: None,
            live_at: live.then_some(at),
            last_error: None,
            failure: error.map(|text| {
                let (cause, fix) = text.split_once('\n').unwrap();
                Failure { code: "x".to_owned(), cause: cause.to_owned(), fix: fix.to_owned() }
            }),
            inserted_at: at,
        }
    }

    fn printed(revisions: Vec<Revision>) -> String {
        let (mut ui, printed) = ui(Screen::Piped);
        ui.table(&table(&RevisionList { revisions })).unwrap();
        printed.out()
    }

    #[test]
    fn every_state_is_named() {
        let serving = Revision { current: true, serving: true, ..revision(6, true, None) };
        let text = printed(vec![
            Revision { rollback_of: Some(2), ..serving },
            revision(5, true, Some("it ended 3 times within 40 s\nread its logs")),
            revision(4, false, Some("no such image\npush it")),
            revision(3, false, None),
            revision(2, true, None),
        ]);
        insta::assert_snapshot!(text, @r"
        Revision  State                Image              Digest               Strategy  Made                  Reason
        --------  -----                -----              ------               --------  ----                  ------
        6         serving (back to 2)  ghcr.io/me/app:v1  sha256:000000000000  rolling   2026-05-21T10:00:00Z
        5         taken back           ghcr.io/me/app:v1  sha256:000000000000  rolling   2026-05-21T10:00:00Z  it ended 3 times within 40 s
        4         failed               ghcr.io/me/app:v1  unknown              rolling   2026-05-21T10:00:00Z  no such image
        3         never live           ghcr.io/me/app:v1  unknown              rolling   2026-05-21T10:00:00Z
        2         was live             ghcr.io/me/app:v1  sha256:000000000000  rolling   2026-05-21T10:00:00Z
        ");
        let coming = Revision { current: true, ..revision(2, false, None) };
        assert_eq!(state(&coming), "coming up");
        let old = Revision { serving: true, ..revision(1, true, None) };
        assert_eq!(state(&old), "still serving");
        let stopped = Revision { current: true, ..revision(1, true, None) };
        assert_eq!(state(&stopped), "current");
    }

    #[test]
    fn the_reason_column_is_shown_only_with_failures() {
        assert!(!printed(vec![revision(1, true, None)]).contains("Reason"));
    }
}
