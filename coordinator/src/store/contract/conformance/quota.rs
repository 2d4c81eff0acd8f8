//! Limits that a use case checks before it writes hold whoever else writes.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Bench;
use super::fixtures::*;
use crate::domain::identity::OrgRole;
use crate::store::StoreError;
use crate::store::contract::Replay;

pub(super) async fn a_limit_counted_in_the_transaction_holds(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], settle).await;
    let make = |n: u128| {
        write(&stores[usize::try_from(n % 2).unwrap()], move |tables| {
            let may = tables.count_api_keys(team_id(1), at(0))? < 5;
            if may {
                tables.insert_api_key(&key(n, 0))?;
            }
            Ok(may)
        })
    };
    let made = join_all((1..=30).map(make)).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 5);
    let count = read(&stores[0], |tables| tables.count_api_keys(team_id(1), at(0))).await;
    assert_eq!(count, 5);
}

pub(super) async fn a_join_token_is_taken_once(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], |tables| {
        tables.insert_join_token(&join_token(1), at(0))?;
        tables.insert_join_token(&join_token(2), at(0))
    })
    .await;
    let take = |n: usize| write(&stores[n % 2], |tables| tables.take_join_token(&[1; 32], at(999)));
    let taken = join_all((0..20).map(take)).await;
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    assert_eq!(taken, [join_token(1)]);
    let late = write(&stores[0], |tables| tables.take_join_token(&[2; 32], at(1000))).await;
    assert_eq!(late, None, "it has expired");
}

pub(super) async fn codes_work_once(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], settle).await;
    write(&stores[0], |tables| {
        tables.propose_totp(person(1), b"sealed")?;
        tables.enable_totp(person(1), at(1))?;
        tables.set_recovery_codes(person(1), &[hash("one"), hash("two")])
    })
    .await;
    let step = |n: usize| write(&stores[n % 2], |tables| tables.use_totp_step(person(1), 7));
    let used = join_all((0..20).map(step)).await;
    assert_eq!(used.iter().filter(|used| **used).count(), 1);
    let code = |n: usize| {
        write(&stores[n % 2], |tables| tables.use_recovery_code(person(1), &hash("one")))
    };
    let used = join_all((0..20).map(code)).await;
    assert_eq!(used.iter().filter(|used| **used).count(), 1);
    let left = write(&stores[0], |tables| {
        assert!(!tables.use_totp_step(person(1), 6)?, "an earlier one");
        assert!(tables.use_totp_step(person(1), 8)?);
        tables.recovery_codes_left(person(1))
    });
    assert_eq!(left.await, 1);
}

pub(super) async fn an_organisation_keeps_an_owner(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], settle).await;
    write(&stores[0], |tables| {
        for n in 2..=8 {
            tables.insert_account(&account(n))?;
            tables.set_org_role(org_id(1), person(n), OrgRole::Owner, at(0))?;
        }
        Ok(())
    })
    .await;
    let leave = |n: u128| {
        write(&stores[usize::try_from(n % 2).unwrap()], move |tables| {
            if tables.count_owners(org_id(1))? < 2 {
                return Ok(false);
            }
            tables.remove_org_member(org_id(1), person(n)).map(|_| true)
        })
    };
    let left = join_all((1..=8).map(leave)).await;
    assert_eq!(left.iter().filter(|left| **left).count(), 7);
    let (owners, members) = read(&stores[0], |tables| {
        Ok((tables.count_owners(org_id(1))?, tables.count_members(org_id(1))?))
    })
    .await;
    assert_eq!((owners, members), (1, 1));
}

pub(super) async fn a_request_with_one_key_is_done_once(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], settle).await;
    let request = |n: usize| {
        let done = stores[n % 2].write(move |tables| {
            if let Some(first) = tables.replay(person(1), "key", at(0))? {
                return Ok((first.result, false));
            }
            let answer = Replay { body_hash: [1; 32], result: n.to_string() };
            tables.keep_answer(person(1), "key", &answer, at(5), at(0))?;
            Ok::<_, StoreError>((answer.result, true))
        });
        async move { done.await.unwrap() }
    };
    let answers = join_all((0..20).map(request)).await;
    assert_eq!(answers.iter().filter(|(_, first)| *first).count(), 1);
    assert!(answers.iter().all(|(result, _)| *result == answers[0].0), "{answers:?}");
}
