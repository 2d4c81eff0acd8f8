//! The order of lists. Everything is stored in another order than the one in which it is listed.

use std::sync::Arc;

use buddo_shared::model::id::Revision;
use serde_json::json;
use uuid::Uuid;

use super::Bench;
use super::fixtures::*;
use crate::domain::identity::{OrgRole, TeamRole};
use crate::store::contract::{
    AccountAct, Action, AuditStatus, MailKind, NewAudit, NewOAuthAct, NewOrgAct, OAuthAct, OrgAct,
    Page, SealedEnvironments,
};

pub(super) async fn deployments_are_listed_by_age(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| join(tables, 1)).await;
    write(&store, |tables| deploy(tables, &[3, 1, 2])).await;
    let (in_team, of_account, on_host) = read(&store, |tables| {
        let page = Page { limit: 10, after: None };
        let in_team = tables.deployments_in(&[team_id(9), team_id(1)], page)?;
        let of_account = tables.outlines_of(person(1))?;
        let on_host = tables.deployments_for(host_id(1))?;
        Ok((
            in_team.iter().map(|d| d.id).collect::<Vec<_>>(),
            of_account.into_iter().map(|d| d.unwrap().id).collect::<Vec<_>>(),
            on_host.into_iter().map(|(id, _)| id.unwrap()).collect::<Vec<_>>(),
        ))
    })
    .await;
    assert_eq!(in_team, [2, 1, 3].map(app), "newest first");
    assert_eq!(of_account, [2, 1, 3].map(app), "newest first");
    assert_eq!(on_host, [3, 1, 2].map(app), "oldest first");
}

pub(super) async fn hosts_are_listed_by_name(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        for (n, name) in [(1, "c"), (2, "a"), (3, "b")] {
            let mut host = host(n);
            host.name = name.to_owned();
            tables.upsert_host(&host)?;
        }
        Ok(())
    })
    .await;
    let names: Vec<String> =
        read(&store, |tables| tables.hosts()).await.into_iter().map(|host| host.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

pub(super) async fn tiers_are_listed_as_they_were_added(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let before = read(&store, |tables| tables.tiers()).await.len();
    write(&store, |tables| {
        for slug in ["c", "a", "b"] {
            tables.insert_tier(&tier(slug))?;
        }
        Ok(())
    })
    .await;
    let tiers = read(&store, |tables| tables.tiers()).await;
    let added: Vec<&str> = tiers[before..].iter().map(|tier| tier.slug.as_str()).collect();
    assert_eq!(added, ["c", "a", "b"]);
    assert_eq!(tiers[before], tier("c"), "as it was stored");
}

pub(super) async fn logins_are_listed_by_use(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let ids = |logins: Vec<crate::store::contract::LoginRow>| -> Vec<Uuid> {
        logins.iter().map(|login| login.id).collect()
    };
    write(&store, |tables| {
        for (n, used) in [(1, 20), (2, 30), (3, 10)] {
            tables.insert_login(&login(n, used), 10)?;
        }
        Ok(())
    })
    .await;
    let listed = read(&store, |tables| tables.logins_of(person(1), at(0))).await;
    assert_eq!(ids(listed), [2, 1, 3].map(uuid), "last used first");
    write(&store, |tables| {
        tables.touch_login(uuid(3), at(40))?;
        tables.touch_login(uuid(2), at(5))
    })
    .await;
    let listed = read(&store, |tables| tables.logins_of(person(1), at(0))).await;
    assert_eq!(listed[1].last_used_at, at(30), "never set back");
    assert_eq!(ids(listed), [3, 2, 1].map(uuid));
    // One more than is kept: the one unused for longest ends.
    write(&store, |tables| tables.insert_login(&login(4, 35), 3)).await;
    let listed = read(&store, |tables| tables.logins_of(person(1), at(0))).await;
    assert_eq!(ids(listed), [3, 4, 2].map(uuid));
    let listed = read(&store, |tables| tables.logins_of(person(1), at(1000))).await;
    assert!(listed.is_empty(), "they have expired");
}

pub(super) async fn keys_and_invitations_are_listed_newest_first(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let (keys, invitations) = write(&store, |tables| {
        for (n, created) in [(1, 20), (2, 10), (3, 30)] {
            tables.insert_api_key(&key(n, created))?;
            tables.insert_invitation(&invitation(n, created))?;
        }
        Ok((tables.api_keys_of(team_id(1))?, tables.invitations_to(org_id(1), at(0))?))
    })
    .await;
    assert_eq!(keys, [key(3, 30), key(1, 20), key(2, 10)]);
    assert_eq!(invitations, [invitation(3, 30), invitation(1, 20), invitation(2, 10)]);
}

pub(super) async fn members_are_listed_as_they_joined(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let (of_org, of_team) = write(&store, |tables| {
        for (n, joined) in [(2, 30), (3, 10), (4, 20)] {
            tables.insert_account(&account(n))?;
            tables.set_org_role(org_id(1), person(n), OrgRole::Member, at(joined))?;
            tables.set_team_role(team_id(1), person(n), TeamRole::Viewer, at(joined))?;
        }
        Ok((tables.org_members(org_id(1))?, tables.team_members(team_id(1))?))
    })
    .await;
    let of_org: Vec<_> = of_org.iter().map(|member| member.account).collect();
    let of_team: Vec<_> = of_team.iter().map(|member| member.username.as_str()).collect();
    assert_eq!(of_org, [1, 3, 4, 2].map(person));
    assert_eq!(of_team, ["person3", "person4", "person2"]);
}

pub(super) async fn teams_are_listed_own_first_and_then_by_slug(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let (seen, within) = write(&store, |tables| {
        let mut own = org(2);
        (own.slug, own.personal_of) = ("@z".to_owned(), Some(person(1)));
        tables.insert_org(&own)?;
        tables.set_org_role(org_id(2), person(1), OrgRole::Owner, at(0))?;
        for (n, org, slug) in [(2, 1, "a"), (3, 2, "c"), (4, 2, "b")] {
            let mut team = team(n, org);
            team.slug = slug.to_owned();
            tables.insert_team(&team)?;
        }
        // A member sees only the teams in which they are.
        tables.insert_account(&account(2))?;
        tables.set_org_role(org_id(1), person(2), OrgRole::Member, at(0))?;
        tables.set_team_role(team_id(2), person(2), TeamRole::Viewer, at(0))?;
        let few = tables.memberships_of(person(2))?;
        assert_eq!(few.len(), 1);
        assert_eq!(few[0].team.id, team_id(2));
        Ok((tables.memberships_of(person(1))?, tables.memberships_in(org_id(1), person(2))?))
    })
    .await;
    let seen: Vec<_> = seen.iter().map(|seen| seen.team.id).collect();
    let within: Vec<_> = within.iter().map(|seen| (seen.team.id, seen.team_role)).collect();
    assert_eq!(seen, [4, 3, 2, 1].map(team_id));
    assert_eq!(within, [(team_id(1), None), (team_id(2), Some(TeamRole::Viewer))]);
}

pub(super) async fn organisations_and_apps_are_listed_oldest_first(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| tables.insert_account(&account(1)).map(drop)).await;
    let (mine, paid, clients, all) = write(&store, |tables| {
        for (n, created) in [(1, 30), (2, 10), (3, 20)] {
            let mut org = org(n);
            org.created_at = at(created);
            tables.insert_org(&org)?;
            tables.set_org_role(org.id, person(1), OrgRole::Owner, at(0))?;
            tables.insert_client(&client(n, created))?;
        }
        let mine = tables.orgs_of(person(1))?;
        let paid = tables.orgs_paid_by(person(1))?;
        Ok((mine, paid, tables.clients_of(person(1))?, tables.clients()?))
    })
    .await;
    let mine: Vec<_> = mine.iter().map(|(org, _)| org.id).collect();
    let paid: Vec<_> = paid.iter().map(|org| org.id).collect();
    assert_eq!((mine, paid), ([2, 3, 1].map(org_id).to_vec(), [2, 3, 1].map(org_id).to_vec()));
    assert_eq!(clients, [client(2, 10), client(3, 20), client(1, 30)]);
    assert_eq!(all, clients);
}

pub(super) async fn logs_are_listed_by_number(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        // Later entries have earlier times: the order is that of writing.
        for n in 0..5 {
            let time = at(100 - n);
            let details = json!({ "n": n });
            tables.insert_account_act(person(1), AccountAct::LoggedIn, time, Some(&details))?;
            tables.insert_admin_act("act", time, None, &details)?;
            tables.insert_org_act(&NewOrgAct {
                org: org_id(1),
                team: None,
                actor: None,
                act: OrgAct::Invited,
                at: time,
                details: Some(details.clone()),
            })?;
            tables.insert_act(&NewOAuthAct {
                act: OAuthAct::Allowed,
                client_id: "app".to_owned(),
                account: None,
                actor: None,
                at: time,
                details: Some(details.clone()),
            })?;
            tables.insert_audit(&NewAudit {
                id: uuid(n.try_into().unwrap()),
                deployment: app(1),
                action: Action::Stop,
                status: AuditStatus::Completed,
                initiated_by: None,
                at: time,
                details: Some(details),
            })?;
        }
        Ok(())
    })
    .await;
    let n = |details: Option<serde_json::Value>| details.unwrap()["n"].as_i64().unwrap();
    let (account, admin, org, oauth, audit) = read(&store, |tables| {
        Ok((
            tables.account_acts(person(1), 3)?,
            tables.admin_acts(None, 3)?,
            tables.org_acts(org_id(1), 3)?,
            tables.acts_of("app", 3)?,
            tables.audit_of(app(1), 3)?,
        ))
    })
    .await;
    let newest_first = [4, 3, 2];
    assert_eq!(account.into_iter().map(|row| n(row.details)).collect::<Vec<_>>(), newest_first);
    assert_eq!(admin.into_iter().map(|row| n(Some(row.details))).collect::<Vec<_>>(), newest_first);
    assert_eq!(org.into_iter().map(|row| n(row.details)).collect::<Vec<_>>(), newest_first);
    let oldest_first = [2, 3, 4];
    assert_eq!(oauth.into_iter().map(|row| n(row.details)).collect::<Vec<_>>(), oldest_first);
    assert_eq!(audit.into_iter().map(|row| n(row.details)).collect::<Vec<_>>(), oldest_first);
}

pub(super) async fn revisions_are_listed_by_number(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| join(tables, 1)).await;
    let (all, last) = write(&store, |tables| {
        deploy(tables, &[1])?;
        for number in [2, 10, 1] {
            tables.insert_revision(app(1), &revision(number), &SealedEnvironments::new())?;
        }
        Ok((tables.revisions(app(1))?, tables.last_revision(app(1))?))
    })
    .await;
    assert_eq!(all, [1, 2, 10].map(revision));
    assert_eq!(last, Some(Revision::new(10)));
}

pub(super) async fn mails_are_due_in_order(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        for (kind, due) in
            [(MailKind::VerifyEmail, 3), (MailKind::PasswordChanged, 1), (MailKind::TotpEnabled, 2)]
        {
            tables.queue_mail(person(1), kind, None, at(due))?;
        }
        let first = tables.due_mail(at(9))?.unwrap();
        assert_eq!((first.kind, first.attempts), (MailKind::PasswordChanged, 0));
        tables.postpone_mail(first.seq, at(5))?;
        assert_eq!(tables.next_mail_due()?, Some(at(2)));
        let mut kinds = Vec::new();
        while let Some(mail) = tables.due_mail(at(9))? {
            kinds.push((mail.kind, mail.attempts));
            tables.drop_mail(mail.seq)?;
        }
        let expected = [
            (MailKind::TotpEnabled, 0),
            (MailKind::VerifyEmail, 0),
            (MailKind::PasswordChanged, 1),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(tables.due_mail(at(9))?, None);
        Ok(())
    })
    .await;
}
