//! What the traits say of their methods, beyond storing and finding.

use std::sync::Arc;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{Generation, Revision};
use buddo_shared::model::workload::ServiceName;

use super::Bench;
use super::fixtures::*;
use crate::domain::encryption::{EncryptionContext, HEAD};
use crate::domain::host_trust::{Issued, Trusts};
use crate::domain::identity::{OrgRole, StoredHash, TeamRole, Username};
use crate::domain::lifecycle::Event;
use crate::domain::scheduler::ClosedHosts;
use crate::store::contract::{
    BrowserSession, ClockMark, Code, DocumentRow, DocumentTrust, EmailToken, Load, MailKind,
    MailedLink, Purpose, Replay, Suspension,
};

pub(super) async fn accounts_are_found_in_any_spelling_until_they_are_deleted(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        assert_eq!(tables.account_by_email(&email("P1@EXAMPLE.com"))?.unwrap().id, person(1));
        assert!(tables.is_username_taken(&Username::parse("PERSON1").unwrap())?);
        assert_eq!(tables.account_by_referral("CODE1")?, Some(person(1)));
        tables.confirm_email(person(1), at(5))?;
        tables.confirm_email(person(1), at(6))?;
        let verified = tables.account(person(1))?.unwrap().email_verified_at;
        assert_eq!(verified, Some(at(5)), "the first time counts");
        let mut second = account(2);
        second.referred_by = Some(person(1));
        assert_eq!(tables.insert_account(&second)?, 2);
        assert_eq!(tables.referrals_of(person(1))?, 1);
        tables.set_email(person(2), &email("other@example.com"), at(7))?;
        tables.set_password(person(2), &StoredHash::from_stored("new".to_owned()))?;
        let second = tables.account(person(2))?.unwrap();
        assert_eq!((second.password.as_str(), second.email_verified_at), ("new", Some(at(7))));
        assert_eq!(tables.account_by_email(&email("p2@example.com"))?, None);
        tables.end_org(org_id(1), at(8))?;
        tables.erase_account(person(1), at(8))?;
        assert_eq!(tables.account(person(1))?, None);
        assert_eq!(tables.account_by_email(&email("p1@example.com"))?, None);
        assert!(!tables.is_username_taken(&Username::parse("person1").unwrap())?);
        assert_eq!(tables.account_by_referral("CODE1")?, None);
        Ok(())
    })
    .await;
}

pub(super) async fn verification_links_work_once_and_only_a_few_are_kept(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        let link = |n: i64| EmailToken {
            hash: hash(&n.to_string()),
            account: person(1),
            email_key: "p1@example.com".to_owned(),
            expires_at: at(10 * n),
        };
        for n in [2, 1, 3] {
            tables.insert_email_token(&link(n), 2)?;
        }
        assert_eq!(tables.take_email_token(&hash("1"))?, None, "the oldest of three");
        assert_eq!(tables.take_email_token(&hash("2"))?, Some(link(2)));
        assert_eq!(tables.take_email_token(&hash("2"))?, None);
        let session = BrowserSession {
            hash: hash("session"),
            account: person(1),
            token_epoch: 0,
            expires_at: at(20),
        };
        tables.insert_session(&session)?;
        assert_eq!(tables.session(&hash("session"))?, Some(session));
        assert_eq!(tables.purge_account_tokens(at(20), 9)?, 1);
        assert_eq!(tables.session(&hash("session"))?, None);
        assert_eq!(tables.purge_account_tokens(at(30), 9)?, 1);
        Ok(())
    })
    .await;
}

pub(super) async fn mailed_links_are_counted_voided_and_purged(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        let link = |n: i64, purpose| MailedLink {
            hash: hash(&n.to_string()),
            account: person(1),
            purpose,
            email: email("p1@example.com"),
            created_at: at(n),
            expires_at: at(100 + n),
        };
        let (reset, change) = (Purpose::ResetPassword, Purpose::ChangeEmail);
        for (n, purpose) in [(1, reset), (2, reset), (3, change), (4, reset)] {
            tables.insert_link(&link(n, purpose))?;
        }
        assert_eq!(tables.links_since(person(1), reset, at(1))?, 2, "after, not at that time");
        assert_eq!(tables.link(&hash("3"), change)?, Some(link(3, change)));
        assert_eq!(tables.link(&hash("3"), reset)?, None, "for another purpose");
        tables.drop_links(person(1), Some(change))?;
        assert_eq!(tables.link(&hash("3"), change)?, None);
        assert_eq!(tables.purge_links(at(101), 9)?, 1);
        tables.drop_links(person(1), None)?;
        assert_eq!(tables.links_since(person(1), reset, at(0))?, 0);
        Ok(())
    })
    .await;
}

pub(super) async fn an_erased_account_leaves_nothing_of_a_person(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        join(tables, 1)?;
        deploy(tables, &[1])?;
        tables.insert_revision(app(1), &revision(1), &envs(b"sealed"))?;
        destroy(tables, 1)?;
        tables.insert_login(&login(1, 0), 9)?;
        tables.insert_api_key(&key(1, 0))?;
        tables.insert_client(&client(1, 0))?;
        tables.insert_grant(&grant(1, "client_1", 0))?;
        tables.queue_mail(person(1), MailKind::VerifyEmail, None, at(0))?;
        tables.queue_mail(person(1), MailKind::AccountDeleted, None, at(0))?;
        tables.request_reset("p1@example.com", at(0))?;
        tables.end_org(org_id(1), at(5))?;
        tables.erase_account(person(1), at(5))?;
        let gone = tables.deployment(app(1))?.unwrap();
        assert_eq!((gone.subdomain.as_str(), gone.container_name.as_str()), ("erased", "erased"));
        assert!(tables.environments(app(1), Revision::FIRST)?.is_empty());
        assert_eq!(tables.login(uuid(1))?, None);
        assert_eq!(tables.api_key_by_hash(&key(1, 0).hash)?, None);
        assert_eq!(tables.client("client_1")?, None);
        assert_eq!(tables.grant(uuid(1))?, None);
        assert!(tables.reset_requests()?.is_empty());
        let mail = tables.due_mail(at(9))?.unwrap();
        assert_eq!(mail.kind, MailKind::AccountDeleted, "the only one left");
        tables.drop_mail(mail.seq)?;
        assert_eq!(tables.next_mail_due()?, None);
        // What was its own can be taken by somebody else.
        let mut other = account(2);
        (other.email, other.username) = (account(1).email, account(1).username);
        tables.insert_account(&other).map(drop)
    })
    .await;
}

pub(super) async fn a_second_factor_is_proposed_enabled_and_cleared(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        tables.enable_totp(person(1), at(1))?;
        assert!(!tables.account(person(1))?.unwrap().totp_enabled, "there is nothing to enable");
        tables.propose_totp(person(1), b"first")?;
        tables.propose_totp(person(1), b"second")?;
        tables.enable_totp(person(1), at(1))?;
        tables.propose_totp(person(1), b"third")?;
        let totp = tables.totp(person(1))?.unwrap();
        assert_eq!((&totp.sealed[..], totp.enabled_at), (&b"second"[..], Some(at(1))));
        assert!(tables.account(person(1))?.unwrap().totp_enabled);
        tables.set_recovery_codes(person(1), &[hash("one")])?;
        tables.clear_totp(person(1))?;
        assert_eq!(tables.totp(person(1))?, None);
        assert_eq!(tables.recovery_codes_left(person(1))?, 0);
        Ok(())
    })
    .await;
}

pub(super) async fn a_login_ends_with_its_grants_and_others_stay(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        for n in 1..=3 {
            tables.insert_login(&login(n, 0), 9)?;
            tables.insert_grant(&grant(n, "buddo-cli", 0))?;
            tables.tie_grant(uuid(n), uuid(n))?;
        }
        tables.insert_client(&client(9, 0))?;
        tables.insert_grant(&grant(9, "client_9", 0))?;
        tables.insert_web_session(&hash("cookie"), uuid(1))?;
        assert_eq!(tables.web_session(&hash("cookie"))?.unwrap().id, uuid(1));
        let ended = |tables: &dyn crate::store::Tables, n| {
            tables.grant(uuid(n)).map(|grant| grant.unwrap().revoked_at.is_some())
        };
        assert!(!tables.end_login(person(2), uuid(1), at(5))?, "of another account");
        assert!(tables.end_login(person(1), uuid(1), at(5))?);
        assert!(!tables.end_login(person(1), uuid(1), at(5))?);
        assert_eq!(tables.web_session(&hash("cookie"))?, None);
        assert!(ended(tables, 1)? && !ended(tables, 2)? && !ended(tables, 3)?);
        assert_eq!(tables.end_other_logins(person(1), uuid(2), at(6))?, 1);
        assert!(!ended(tables, 2)? && ended(tables, 3)?);
        assert!(!ended(tables, 9)?, "consents to other apps stay");
        tables.end_keys_and_apps(person(1), at(7))?;
        assert!(!ended(tables, 2)? && ended(tables, 9)?);
        Ok(())
    })
    .await;
}

pub(super) async fn ending_everything_of_an_account_leaves_the_others(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        tables.insert_account(&account(2))?;
        for n in [1, 2] {
            let mut login = login(n, 0);
            login.account = person(n);
            tables.insert_login(&login, 9)?;
            let mut grant = grant(n, "buddo-cli", 0);
            grant.account = person(n);
            tables.insert_grant(&grant)?;
        }
        tables.insert_api_key(&key(1, 0))?;
        tables.end_everything(person(1), at(5))?;
        assert_eq!((tables.login(uuid(1))?, tables.api_keys_of(team_id(1))?.len()), (None, 0));
        let epochs = [1, 2].map(|n| tables.account(person(n)).unwrap().unwrap().token_epoch);
        assert_eq!(epochs, [1, 0]);
        assert!(tables.grant(uuid(1))?.unwrap().revoked_at.is_some());
        assert!(
            tables.login(uuid(2))?.is_some()
                && tables.grant(uuid(2))?.unwrap().revoked_at.is_none()
        );
        tables.end_all_sessions(at(6))?;
        assert_eq!(tables.login(uuid(2))?, None);
        assert_eq!(tables.grant(uuid(2))?.unwrap().revoked_at, Some(at(6)));
        assert_eq!(tables.account(person(2))?.unwrap().token_epoch, 1);
        Ok(())
    })
    .await;
}

pub(super) async fn the_consents_kept_are_those_given_last(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        tables.insert_client(&client(1, 0))?;
        tables.insert_grant(&grant(9, "buddo-cli", 0))?;
        // The clock was set back before the last one.
        for (n, created) in [(1, 10), (2, 10), (3, 30), (4, 5)] {
            tables.insert_grant(&grant(n, "client_1", created))?;
        }
        assert_eq!(tables.keep_newest_grants(person(1), "client_1", 2)?, 2);
        let left = [1, 2, 3, 4, 9].map(|n| tables.grant(uuid(n)).unwrap().is_some());
        assert_eq!(left, [false, false, true, true, true]);
        Ok(())
    })
    .await;
}

pub(super) async fn connections_combine_consents(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        for n in 1..=3 {
            tables.insert_client(&client(n, 0))?;
        }
        for (n, client, scopes) in [
            (1, "client_1", "profile:read"),
            (2, "client_1", "points:read"),
            (3, "client_2", "profile:read"),
            (4, "client_3", "profile:read"),
        ] {
            let mut grant = grant(n, client, 10 * i64::try_from(n).unwrap());
            grant.scopes = scopes.parse().unwrap();
            tables.insert_grant(&grant)?;
            tables.insert_token(&token(n, n, if n == 4 { 50 } else { 100 }))?;
        }
        let found = tables.connections(person(1), at(50))?;
        let found: Vec<_> = found
            .iter()
            .map(|found| (&found.client.client_id[..], found.since, found.last_token_at))
            .collect();
        assert_eq!(found, [("client_2", at(30), at(3)), ("client_1", at(10), at(2))]);
        let scopes = &tables.connections(person(1), at(50))?[1].scopes;
        assert_eq!(*scopes, "profile:read points:read".parse().unwrap());
        assert_eq!(tables.revoke_grants_of(person(1), Some("client_1"), at(60))?, 2);
        assert_eq!(tables.revoke_grants_of_others("client_2", Some(person(1)), at(60))?, 0);
        assert_eq!(tables.revoke_grants_of_others("client_2", None, at(60))?, 1);
        assert_eq!(tables.revoke_grants_of(person(1), None, at(60))?, 1);
        assert!(tables.connections(person(1), at(50))?.is_empty());
        Ok(())
    })
    .await;
}

pub(super) async fn a_purge_of_tokens_forgets_consents_with_nothing_left(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        for n in 1..=3 {
            tables.insert_grant(&grant(n, "buddo-cli", 0))?;
        }
        tables.insert_token(&token(1, 1, 10))?;
        tables.insert_token(&token(2, 2, 100))?;
        let code = Code {
            hash: hash("code"),
            grant: uuid(3),
            redirect_uri: String::new(),
            challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".parse().unwrap(),
            expires_at: at(10),
            used_at: None,
        };
        tables.insert_code(&code)?;
        tables.use_code(&hash("code"), at(5))?;
        tables.insert_token(&token(3, 3, 100))?;
        assert_eq!(tables.code(&hash("code"))?.unwrap().used_at, Some(at(5)));
        while tables.purge_oauth(at(50), 1)? > 0 {}
        let left = [1, 2, 3].map(|n| tables.grant(uuid(n)).unwrap().is_some());
        assert_eq!(left, [false, true, true]);
        let (token, of) = tables.token(&hash("token 2"))?.unwrap();
        assert_eq!((token.used_at, of.id), (None, uuid(2)));
        tables.use_token(&hash("token 2"), at(51))?;
        assert_eq!(tables.token(&hash("token 2"))?.unwrap().0.used_at, Some(at(51)));
        assert!(tables.code(&hash("code"))?.is_some(), "known if it comes again");
        tables.delete_token(&hash("token 3"))?;
        while tables.purge_oauth(at(50), 1)? > 0 {}
        assert_eq!((tables.grant(uuid(3))?, tables.code(&hash("code"))?), (None, None));
        Ok(())
    })
    .await;
}

pub(super) async fn a_key_is_never_used_earlier_than_before(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        tables.insert_api_key(&key(1, 0))?;
        let used = |tables: &dyn crate::store::Tables| {
            tables.api_key(team_id(1), key(1, 0).id).map(|key| key.unwrap().last_used_at)
        };
        assert_eq!(used(tables)?, None);
        for (second, expected) in [(20, 20), (10, 20), (30, 30)] {
            tables.touch_api_key(key(1, 0).id, at(second))?;
            assert_eq!(used(tables)?, Some(at(expected)));
        }
        assert_eq!(tables.count_api_keys(team_id(1), at(1000))?, 0, "it has expired by then");
        assert!(tables.drop_api_key(key(1, 0).id)?);
        assert!(!tables.drop_api_key(key(1, 0).id)?);
        tables.insert_api_key(&key(2, 0))?;
        assert_eq!(tables.drop_api_keys_by(team_id(1), person(1))?, 1);
        Ok(())
    })
    .await;
}

pub(super) async fn an_invitation_replaces_the_earlier_one(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        tables.insert_invitation(&invitation(1, 0))?;
        tables.set_invitation_token(invitation(1, 0).id, &hash("first"))?;
        let mut second = invitation(2, 5);
        second.email = email("I1@example.com");
        tables.insert_invitation(&second)?;
        assert_eq!(tables.invitation_by_token(&hash("first"))?, None);
        tables.set_invitation_token(second.id, &hash("second"))?;
        assert_eq!(tables.invitation_by_token(&hash("second"))?, Some(second.clone()));
        assert_eq!(tables.invitations_to(org_id(1), at(999))?, [second.clone()]);
        assert!(tables.invitations_to(org_id(1), at(1000))?.is_empty());
        assert!(tables.drop_invitation(second.id)? && !tables.drop_invitation(second.id)?);
        assert_eq!(tables.invitation(second.id)?, None);
        Ok(())
    })
    .await;
}

pub(super) async fn an_organisation_ends_with_all_that_is_in_it(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        join(tables, 1)?;
        deploy(tables, &[1])?;
        tables.insert_account(&account(2))?;
        tables.set_org_role(org_id(1), person(2), OrgRole::Owner, at(1))?;
        tables.set_team_role(team_id(1), person(2), TeamRole::Admin, at(1))?;
        let mut of_two = key(2, 0);
        of_two.account = person(2);
        tables.insert_api_key(&of_two)?;
        tables.set_payer(org_id(1), person(2))?;
        assert_eq!(tables.deployment(app(1))?.unwrap().account, person(2));
        assert!(tables.org_has_deployments(org_id(1))? && tables.team_has_deployments(team_id(1))?);
        destroy(tables, 1)?;
        assert!(!tables.org_has_deployments(org_id(1))?);
        tables.rename_org(org_id(1), "New", "new")?;
        tables.rename_team(team_id(1), "New team", "new-team")?;
        let seen = tables.membership(person(2), team_id(1))?.unwrap();
        assert_eq!((&seen.org.slug[..], &seen.team.name[..]), ("new", "New team"));
        assert_eq!(tables.remove_org_member(org_id(1), person(2))?, 1, "with their keys");
        assert_eq!(tables.org_role(org_id(1), person(2))?, None);
        assert!(!tables.remove_team_member(team_id(1), person(2))?, "nor in its teams");
        tables.insert_api_key(&key(3, 0))?;
        tables.insert_invitation(&invitation(1, 0))?;
        tables.insert_team(&team(2, 1))?;
        tables.end_team(team_id(1), at(5))?;
        assert_eq!(
            (tables.membership(person(1), team_id(1))?, tables.api_keys_of(team_id(1))?),
            (None, vec![])
        );
        tables.end_org(org_id(1), at(6))?;
        assert_eq!(
            (tables.org(org_id(1))?, tables.membership(person(1), team_id(2))?),
            (None, None)
        );
        assert!(tables.invitations_to(org_id(1), at(0))?.is_empty());
        assert!(
            tables.orgs_of(person(1))?.is_empty() && tables.orgs_paid_by(person(2))?.is_empty()
        );
        Ok(())
    })
    .await;
}

pub(super) async fn the_same_mail_waits_once(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        let kind = MailKind::VerifyEmail;
        tables.queue_mail(person(1), kind, None, at(1))?;
        let first = tables.due_mail(at(9))?.unwrap();
        tables.postpone_mail(first.seq, at(100))?;
        assert_eq!(tables.due_mail(at(9))?, None);
        tables.queue_mail(person(1), kind, None, at(5))?;
        let again = tables.due_mail(at(5))?.unwrap();
        assert_eq!((again.attempts, again.created_at), (0, at(5)));
        // To another address, or with another invitation, it is another mail.
        let other = email("other@example.com");
        tables.queue_mail(person(1), kind, Some(&other), at(6))?;
        for n in [1, 2] {
            tables.queue_invitation(person(1), &other, invitation(n, 0).id, at(7))?;
        }
        tables.drop_mails(person(1), kind)?;
        let (mut left, mut seen) = (0, Vec::new());
        while let Some(mail) = tables.due_mail(at(9))? {
            tables.drop_mail(mail.seq)?;
            seen.push((mail.recipient.unwrap(), mail.invitation.unwrap()));
            left += 1;
        }
        assert_eq!(left, 2);
        assert_eq!(seen, [1, 2].map(|n| (other.clone(), invitation(n, 0).id)));
        Ok(())
    })
    .await;
}

pub(super) async fn a_valid_answer_is_not_replaced(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let keep = |result: &'static str, second, since| {
        move |tables: &mut dyn crate::store::Tables| {
            let answer = Replay { body_hash: [7; 32], result: result.to_owned() };
            tables.keep_answer(person(1), "key", &answer, at(second), at(since))
        }
    };
    write(&store, keep("first", 10, 0)).await;
    assert!(refuses(&store, keep("second", 20, 9)).await, "the first is still valid");
    let found = read(&store, |tables| tables.replay(person(1), "key", at(9))).await;
    assert_eq!(found.unwrap().result, "first");
    let found = read(&store, |tables| tables.replay(person(1), "key", at(10))).await;
    assert_eq!(found, None, "it has expired");
    write(&store, keep("second", 20, 10)).await;
    write(&store, |tables| {
        assert_eq!(tables.replay(person(1), "key", at(10))?.unwrap().result, "second");
        assert_eq!(tables.replay(person(2), "key", at(0))?, None, "of another account");
        assert_eq!(tables.purge_answers(at(19), 9)?, 0);
        assert_eq!(tables.purge_answers(at(20), 9)?, 1);
        Ok(())
    })
    .await;
}

pub(super) async fn a_host_that_joins_again_starts_over(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        let mut first = host(1);
        first.max_memory_mb = Some(1000);
        tables.upsert_host(&first)?;
        let wanted = tables.bump_generation(host_id(1))?;
        tables.set_acknowledged(host_id(1), wanted)?;
        tables.set_report_seq(host_id(1), 7)?;
        tables.set_refusal(host_id(1), "why")?;
        assert!(tables.reach(host_id(1))?.unwrap().refuses);
        tables.set_unreachable(host_id(1), at(5))?;
        tables.set_unreachable(host_id(1), at(6))?;
        assert_eq!(tables.reach(host_id(1))?.unwrap().unreachable_since, Some(at(5)));
        tables.lock_host(host_id(1), at(5))?;
        tables.lock_host(host_id(1), at(6))?;
        assert_eq!(tables.host(host_id(1))?.unwrap().identity.locked_at, Some(at(5)));
        tables.remove_host(host_id(1), at(8))?;
        assert!(tables.hosts()?.is_empty() && tables.host(host_id(1))?.is_some());
        let mut again = host(1);
        (again.address, again.joined_at) = ("127.0.0.1:2".to_owned(), at(9));
        again.identity.certificate =
            Some(Issued { number: 2, ca: "ca".to_owned(), expires_at: at(99), renewal: None });
        tables.upsert_host(&again)?;
        let found = tables.host(host_id(1))?.unwrap();
        assert_eq!((&found.address[..], found.joined_at), ("127.0.0.1:2", at(9)));
        assert_eq!((found.acknowledged, found.report_seq, found.refusal), (None, 0, None));
        assert_eq!((found.identity.locked_at, found.identity.removed_at), (None, None));
        assert_eq!(found.identity.certificate, again.identity.certificate);
        assert_eq!(found.max_memory_mb, Some(1000), "the limit stays unless another is given");
        assert_eq!(found.wanted, wanted, "generations go on");
        tables.set_reached(host_id(1), at(10))?;
        assert_eq!(tables.host(host_id(1))?.unwrap().unreachable_since, None);
        Ok(())
    })
    .await;
}

pub(super) async fn the_epoch_rises_to_the_floor_at_least(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        join(tables, 1)?;
        let before = tables.bump_generation(host_id(1))?;
        let raised = tables.raise_epoch(0)?;
        assert_eq!(raised, before.epoch + 1);
        assert_eq!(tables.raise_epoch(1000)?, 1000);
        assert_eq!(tables.raise_epoch(10)?, 1001);
        let host = tables.host(host_id(1))?.unwrap();
        assert_eq!(host.wanted, before, "hosts see it in their next generation");
        let next = tables.bump_generation(host_id(1))?;
        assert_eq!((next.epoch, next.generation), (1001, before.generation + 1));
        Ok(())
    })
    .await;
    assert!(refuses(&store, |tables| tables.bump_generation(host_id(9)).map(drop)).await);
}

pub(super) async fn only_the_newest_document_is_kept(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        join(tables, 1)?;
        let document = |epoch, generation| DocumentRow {
            generation: Generation { epoch, generation },
            digest: format!("sha256:{epoch}-{generation}"),
            envelope: vec![0, 1, 2, 255],
            issued_at: at(1),
            expires_at: at(2),
            trust: (generation > 1).then(|| DocumentTrust {
                signer: "key".to_owned(),
                names: Trusts { keys: vec!["key".to_owned()], cas: Vec::new() },
            }),
        };
        for (epoch, generation) in [(1, 9), (2, 1), (2, 2)] {
            tables.insert_document(host_id(1), &document(epoch, generation))?;
        }
        let newest = document(2, 2);
        assert_eq!(tables.newest_document(host_id(1))?, Some(newest.generation));
        assert_eq!(tables.document(host_id(1), newest.generation)?, Some(newest.clone()));
        assert_eq!(tables.last_document(host_id(1))?, Some(newest.envelope.clone()));
        let mark = tables.document_mark(host_id(1), newest.generation)?;
        assert_eq!(mark, Some((at(1), newest.trust.clone())));
        assert_eq!(tables.document(host_id(1), document(1, 9).generation)?, None);
        // Acknowledged, its trust is the host's.
        tables.set_acknowledged(host_id(1), newest.generation)?;
        let host = tables.host(host_id(1))?.unwrap();
        assert_eq!(host.identity.trusts, newest.trust.map(|trust| trust.names));
        assert_eq!(host.acknowledged, Some(newest.generation));
        Ok(())
    })
    .await;
}

pub(super) async fn loads_follow_deployments(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        join(tables, 1)?;
        join(tables, 2)?;
        deploy(tables, &[1, 2])?;
        tables.insert_revision(app(1), &revision(1), &envs(&[5; 100]))?;
        let load = |containers, reserved_mb, env_bytes| Load {
            reserved_mb,
            containers,
            env_bytes,
            largest_mb: if containers == 0 { 0 } else { 256 },
        };
        assert_eq!(tables.load(host_id(1))?, load(2, 512, 100));
        assert_eq!(tables.env_bytes_of(person(1))?, [(host_id(1), 100)]);
        tables.set_host(app(1), host_id(2))?;
        assert_eq!(tables.load(host_id(1))?, load(1, 256, 0));
        assert_eq!(tables.load(host_id(2))?, load(1, 256, 100));
        tables.erase_env(app(1))?;
        assert_eq!(tables.load(host_id(2))?, load(1, 256, 0));
        destroy(tables, 1)?;
        assert_eq!(tables.load(host_id(2))?, load(0, 0, 0));
        assert!(tables.miscounted_hosts(9)?.is_empty());
        tables.recount_load(host_id(1))?;
        assert_eq!(tables.load(host_id(1))?, load(1, 256, 0));
        Ok(())
    })
    .await;
}

pub(super) async fn closed_hosts_are_counted_by_reason(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let closed = write(&store, |tables| {
        for n in 1..=6 {
            join(tables, n)?;
        }
        // The first reason counts.
        tables.lock_host(host_id(1), at(1))?;
        tables.set_drained(host_id(1), Some(at(1)))?;
        tables.set_drained(host_id(2), Some(at(1)))?;
        tables.set_unreachable(host_id(3), at(5))?;
        let mut short = status(64 * 1024);
        short.lacks = Some(Box::new(buddo_shared::host_wire::report::Failure {
            code: "disk_full".to_owned(),
            cause: "cause".to_owned(),
            fix: "fix".to_owned(),
        }));
        tables.set_host_status(host_id(4), &short)?;
        tables.remove_host(host_id(5), at(1))?;
        tables.upsert_host(&host(7))?;
        tables.closed_hosts(at(5))
    });
    let expected = ClosedHosts { locked: 1, drained: 1, lost: 1, short: 1, unknown: 1 };
    assert_eq!(closed.await, expected);
}

pub(super) async fn what_a_revision_learns_first_stays(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        join(tables, 1)?;
        deploy(tables, &[1])?;
        for number in 1..=3 {
            tables.insert_revision(app(1), &revision(number), &envs(b"sealed"))?;
        }
        let one = Revision::FIRST;
        let digest = |c: &str| format!("sha256:{}", c.repeat(64)).parse().unwrap();
        tables.set_digest(app(1), ServiceName::APP, one, &digest("a"))?;
        tables.set_digest(app(1), ServiceName::APP, one, &digest("b"))?;
        assert!(tables.set_live(app(1), one, at(5))?);
        assert!(!tables.set_live(app(1), one, at(6))?);
        assert!(tables.set_failure(app(1), one, &failure("first"))?);
        assert!(!tables.set_failure(app(1), one, &failure("second"))?);
        let found = tables.revision(app(1), one)?.unwrap();
        let known = found.services.public().digest.clone();
        assert_eq!((known, found.live_at), (Some(digest("a")), Some(at(5))));
        assert_eq!(found.failure, Some(failure("first")));
        tables.forget_revisions(app(1), &[Revision::new(2)])?;
        assert_eq!(tables.revision(app(1), Revision::new(2))?, None);
        assert_eq!(tables.environments(app(1), one)?, envs(b"sealed"));
        tables.erase_env(app(1))?;
        assert!(tables.environments(app(1), Revision::new(3))?.is_empty());
        Ok(())
    })
    .await;
}

pub(super) async fn sealed_values_under_other_keys_are_found_and_replaced_once(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        join(tables, 1)?;
        deploy(tables, &[1])?;
        let sealed = |head: u8| [[head; HEAD].to_vec(), b"sealed".to_vec()].concat();
        for (number, head) in [(1, 4), (2, 5), (3, 6)] {
            tables.insert_revision(app(1), &revision(number), &envs(&sealed(head)))?;
        }
        tables.propose_totp(person(1), &sealed(7))?;
        let found = tables.sealed_otherwise(&[5; HEAD], 9)?;
        let mut contexts: Vec<String> =
            found.iter().map(|value| format!("{:?}", value.context)).collect();
        contexts.sort_unstable();
        let env = |n| EncryptionContext::Environment(app(1), Revision::new(n), ServiceName::APP);
        let mut expected = [env(1), env(3), EncryptionContext::TotpSecret(person(1))]
            .map(|context| format!("{context:?}"));
        expected.sort_unstable();
        assert_eq!(contexts, expected, "on both sides of the key");
        assert_eq!(tables.sealed_otherwise(&[5; HEAD], 2)?.len(), 2);
        for value in &found {
            assert!(tables.replace_sealed(value, &sealed(5))?);
            assert!(!tables.replace_sealed(value, &sealed(8))?, "it is not what it was");
        }
        assert!(tables.sealed_otherwise(&[5; HEAD], 9)?.is_empty());
        tables.end_first_form()?;
        assert!(!tables.has_first_form()?);
        Ok(())
    })
    .await;
}

pub(super) async fn a_closed_tier_is_open_to_whom_it_is_allowed(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        let mut large = tier("large");
        tables.insert_tier(&large)?;
        assert_eq!(tables.closed_tier(&large.id, person(1))?, Some(large.slug.clone()));
        assert!(tables.allow_tier(&large.id, person(1), at(0))?);
        assert!(!tables.allow_tier(&large.id, person(1), at(0))?);
        assert_eq!(tables.closed_tier(&large.id, person(1))?, None);
        assert!(tables.deny_tier(&large.id, person(1))?);
        assert!(!tables.deny_tier(&large.id, person(1))?);
        (large.open_to_all, large.max_per_account) = (true, Some(3));
        tables.update_tier(&large)?;
        assert_eq!(tables.closed_tier(&large.id, person(1))?, None);
        assert_eq!(tables.tier(&large.slug)?, Some(large));
        Ok(())
    })
    .await;
}

pub(super) async fn failed_first_deploys_are_counted(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        join(tables, 1)?;
        deploy(tables, &[1, 2, 3, 4])?;
        destroy(tables, 4)?;
        let mut failed = tables.deployment(app(1))?.unwrap();
        failed.lifecycle.apply(Event::GaveUp).unwrap();
        failed.failure = Some(failure("image_not_found"));
        tables.update_deployment(&failed)?;
        assert_eq!(tables.deployment(app(1))?, Some(failed.clone()), "as it was changed");
        let counts = tables.count_deployments(person(1), &failed.tier_id)?;
        assert_eq!((counts.in_all.there, counts.in_all.failed), (3, 1));
        assert_eq!(counts.on_tier, counts.in_all);
        let elsewhere = tables.count_deployments(person(1), "another")?;
        assert_eq!((elsewhere.on_tier.there, elsewhere.in_all.there), (0, 3));
        let app_id = tables.app_of(person(1), &"app-4".parse().unwrap())?;
        assert_eq!(app_id, Some(tables.deployment(app(4))?.unwrap().app_id), "destroyed ones too");
        tables.set_held(host_id(1), &[(app(2), failure("held")), (app(4), failure("held"))])?;
        let held = [1, 2, 4].map(|n| tables.deployment(app(n)).unwrap().unwrap().held.is_some());
        assert_eq!(held, [false, true, false]);
        tables.set_held(host_id(1), &[(app(3), failure("held"))])?;
        assert_eq!(tables.deployment(app(2))?.unwrap().held, None);
        let mut lifecycle = tables.deployment(app(3))?.unwrap().lifecycle;
        lifecycle.apply(Event::Suspend).unwrap();
        tables.set_run(app(3), lifecycle, RunState::Stopped, Some(at(7)))?;
        let parked = tables.outline(app(3))?.unwrap();
        assert_eq!((parked.lifecycle, parked.run), (lifecycle, Some(RunState::Stopped)));
        assert!(!parked.serves);
        Ok(())
    })
    .await;
}

pub(super) async fn times_and_requests_are_remembered(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        assert_eq!(tables.clock_mark(ClockMark::Confirmed)?, None);
        for second in [5, 4] {
            tables.set_clock_mark(ClockMark::Confirmed, at(second))?;
            assert_eq!(tables.clock_mark(ClockMark::Confirmed)?, Some(at(second)));
        }
        assert_eq!(tables.clock_mark(ClockMark::Seen)?, None);
        for (key, second) in [("b", 1), ("a", 2), ("c", 3), ("b", 4)] {
            tables.request_reset(key, at(second))?;
        }
        assert_eq!(tables.reset_requests()?, ["a", "c", "b"], "each once, the oldest first");
        tables.drop_reset_request("c")?;
        assert_eq!(tables.reset_requests()?, ["a", "b"]);
        Ok(())
    })
    .await;
}

pub(super) async fn administrators_are_counted_and_suspended(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        for n in 1..=3 {
            tables.insert_account(&account(n))?;
            tables.set_admin(person(n), n < 3)?;
        }
        assert_eq!(tables.count_admins()?, 2);
        let suspension = Suspension { since: at(5), reason: Some("reason".to_owned()) };
        tables.set_suspended(person(1), Some(&suspension))?;
        assert_eq!(tables.account(person(1))?.unwrap().suspended, Some(suspension));
        assert_eq!(tables.count_admins()?, 1);
        tables.set_suspended(person(1), None)?;
        assert_eq!(tables.account(person(1))?.unwrap().suspended, None);
        Ok(())
    })
    .await;
}
