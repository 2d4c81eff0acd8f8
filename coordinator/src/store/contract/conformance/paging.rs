//! Pages: together they are the whole list, each row once.

use std::sync::Arc;

use buddo_shared::model::id::{DeploymentId, HostId};
use serde_json::json;

use super::Bench;
use super::fixtures::*;
use crate::domain::capacity::Demand;
use crate::store::contract::{CandidateSearch, Page, SealedEnvironments};

pub(super) async fn pages_of_deployments_neither_repeat_nor_skip(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| join(tables, 1)).await;
    write(&store, |tables| deploy(tables, &[5, 2, 7, 1, 6])).await;
    write(&store, |tables| destroy(tables, 7)).await;
    let pages = read(&store, |tables| {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = tables.deployments_in(&[team_id(1)], Page { limit: 2, after })?;
            let Some(last) = page.last() else { return Ok(pages) };
            after = Some(last.id);
            pages.push(page.iter().map(|d| d.id).collect::<Vec<DeploymentId>>());
        }
    })
    .await;
    assert_eq!(pages, [[6, 1].map(app), [2, 5].map(app)]);
    let none = Page { limit: 2, after: None };
    let none = read(&store, move |tables| tables.deployments_in(&[], none)).await;
    assert!(none.is_empty(), "of no team");
}

pub(super) async fn pages_of_accounts_neither_repeat_nor_skip(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        for (number, n) in [(1, 3), (2, 1), (3, 2)] {
            assert_eq!(tables.insert_account(&account(n))?, number);
        }
        Ok(())
    })
    .await;
    let (first, second, last) = read(&store, |tables| {
        let first = tables.accounts_page(0, 2, None)?;
        let second = tables.accounts_page(first[1].registration_number, 2, None)?;
        let last = tables.accounts_page(second[0].registration_number, 2, None)?;
        Ok((first, second, last))
    })
    .await;
    let ids = |page: &[crate::store::contract::Account]| -> Vec<_> {
        page.iter().map(|account| account.id).collect()
    };
    assert_eq!((ids(&first), ids(&second)), ([3, 1].map(person).to_vec(), vec![person(2)]));
    assert!(last.is_empty());
}

pub(super) async fn a_search_takes_wildcards_as_they_are_and_ignores_case(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        for (n, address) in [(1, "a_b@example.com"), (2, "axb@example.com"), (3, "a%b@example.com")]
        {
            let mut account = account(n);
            account.email = email(address);
            tables.insert_account(&account)?;
        }
        Ok(())
    })
    .await;
    for (text, found) in [
        ("a_b", vec![1]),
        ("a%b", vec![3]),
        ("AXB", vec![2]),
        ("PERSON2", vec![2]),
        ("\\", vec![]),
        ("@example", vec![1, 2, 3]),
    ] {
        let page = read(&store, move |tables| tables.accounts_page(0, 9, Some(text))).await;
        let ids: Vec<_> = page.iter().map(|account| account.id).collect();
        assert_eq!(ids, found.into_iter().map(person).collect::<Vec<_>>(), "{text}");
    }
}

pub(super) async fn pages_of_acts_apps_and_allowed_accounts_go_on_where_the_last_one_ended(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    write(&store, |tables| {
        for n in 1..=5 {
            tables.insert_account(&account(n))?;
            tables.insert_admin_act("act", at(0), None, &json!({ "n": n.to_string() }))?;
        }
        let before = tables.last_admin_act()?;
        tables.insert_admin_act("act", at(0), None, &json!({ "n": "6" }))?;
        assert!(tables.last_admin_act()? > before, "it rises with each");
        tables.insert_tier(&tier("large"))?;
        for n in [4, 1, 3] {
            tables.insert_client(&client(n, 0))?;
            assert!(tables.allow_tier("tier-large", person(n), at(0))?);
        }
        Ok(())
    })
    .await;
    read(&store, |tables| {
        let (mut acts, mut before) = (Vec::new(), None);
        loop {
            let page = tables.admin_acts(before, 4)?;
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            acts.extend(page.iter().map(|act| act.details["n"].as_str().unwrap().to_owned()));
        }
        assert_eq!(acts, ["6", "5", "4", "3", "2", "1"]);
        let first = tables.clients_page("", 2)?;
        let rest = tables.clients_page(&first[1].client_id, 2)?;
        let ids: Vec<_> = first.iter().chain(&rest).map(|client| &client.client_id).collect();
        assert_eq!(ids, ["client_1", "client_3", "client_4"]);
        let first = tables.tier_accounts("tier-large", 0, 2)?;
        let rest = tables.tier_accounts("tier-large", first[1].registration_number, 2)?;
        let ids: Vec<_> = first.iter().chain(&rest).map(|account| account.id).collect();
        assert_eq!(ids, [1, 3, 4].map(person));
        Ok(())
    })
    .await;
}

/// Any host that takes deployments.
fn search(except: &[HostId]) -> CandidateSearch<'_> {
    CandidateSearch { fits: None, lost_at: at(40), except }
}

pub(super) async fn pages_of_hosts_go_on_where_the_last_one_ended(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| {
        for (n, memory) in [(1, 8), (2, 32), (3, 16), (4, 32), (5, 64)] {
            tables.upsert_host(&host(n))?;
            tables.set_host_status(host_id(n), &status(memory * 1024))?;
        }
        tables.upsert_host(&host(6))?;
        tables.set_unreachable(host_id(5), at(50))?;
        tables.set_drained(host_id(1), Some(at(1)))
    })
    .await;
    read(&store, move |tables| {
        let (mut hosts, mut after) = (Vec::new(), None);
        loop {
            let page = tables.candidate_hosts(search(&[]), after, 2)?;
            let Some(last) = page.last() else { break };
            after = Some(last.mark);
            hosts.extend(page.iter().map(|host| host.mark.host));
        }
        // Most room first, the one that is away last, and none that takes nothing.
        assert_eq!(hosts, [2, 4, 3, 5].map(host_id));
        let except = [host_id(4), host_id(3)];
        let others = tables.candidate_hosts(search(&except), None, 9)?;
        let others: Vec<_> = others.iter().map(|host| host.mark.host).collect();
        assert_eq!(others, [2, 5].map(host_id));
        let lost = CandidateSearch { lost_at: at(50), ..search(&[]) };
        assert_eq!(tables.candidate_hosts(lost, None, 9)?.len(), 3, "without the lost one");
        let demand = Demand { memory_mb: 20 * 1024, env_bytes: 0 };
        let fits = CandidateSearch { fits: Some((demand, 1.0)), ..search(&[]) };
        // Room is needed for an update beside the app, so only the largest has it.
        let found = tables.candidate_hosts(fits, None, 9)?;
        assert_eq!(found.iter().map(|host| host.mark.host).collect::<Vec<_>>(), [host_id(5)]);
        let fits = CandidateSearch { fits: Some((demand, 2.0)), ..search(&[]) };
        assert_eq!(tables.candidate_hosts(fits, None, 9)?.len(), 3, "with overcommitment");
        Ok(())
    })
    .await;
}

pub(super) async fn pages_of_deployments_with_many_revisions_go_on_where_the_last_one_ended(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| join(tables, 1)).await;
    let pages = write(&store, |tables| {
        deploy(tables, &[4, 2, 1, 3, 5])?;
        for (n, revisions) in [(1, 3), (2, 2), (3, 3), (4, 3), (5, 4)] {
            for number in 1..=revisions {
                tables.insert_revision(app(n), &revision(number), &SealedEnvironments::new())?;
            }
        }
        destroy(tables, 5)?;
        let first = tables.with_many_revisions(2, None, 2)?;
        let second = tables.with_many_revisions(2, first.last().copied(), 2)?;
        Ok([first, second])
    })
    .await;
    assert_eq!(pages, [vec![app(1), app(3)], vec![app(4)]]);
}

pub(super) async fn a_purge_takes_no_more_than_it_is_told(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| {
        for n in 1..=5 {
            tables.insert_login(&login(n, 0), 10)?;
            tables.insert_api_key(&key(n, 0))?;
            tables.insert_invitation(&invitation(n, 0))?;
        }
        assert_eq!(tables.purge_logins(at(999), 2)?, 0, "none has expired");
        assert_eq!(tables.purge_logins(at(1000), 2)?, 2);
        assert_eq!(tables.purge_logins(at(1000), 9)?, 3);
        assert_eq!(tables.purge_api_keys(at(1000), 2)?, 2);
        assert_eq!(tables.api_keys_of(team_id(1))?.len(), 3);
        assert_eq!(tables.purge_invitations(at(1000), 4)?, 4);
        assert_eq!(tables.purge_invitations(at(1000), 4)?, 1);
        Ok(())
    })
    .await;
}
