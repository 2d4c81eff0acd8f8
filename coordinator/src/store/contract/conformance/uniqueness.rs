//! What may exist only once.

use std::sync::Arc;

use super::Bench;
use super::fixtures::*;
use crate::domain::identity::{OrgRole, Username};
use crate::store::contract::DeviceCode;

pub(super) async fn an_address_belongs_to_one_account(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = account(2);
        second.email = email("P1@Example.com");
        tables.insert_account(&second).map(drop)
    };
    assert!(refuses(&store, same).await);
    write(&store, |tables| tables.insert_account(&account(2))).await;
}

pub(super) async fn a_username_belongs_to_one_account(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = account(2);
        second.username = Username::parse("Person1").unwrap();
        assert!(tables.is_username_taken(&second.username)?);
        tables.insert_account(&second).map(drop)
    };
    assert!(refuses(&store, same).await);
}

pub(super) async fn a_referral_code_belongs_to_one_account(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = account(2);
        second.referral_code = account(1).referral_code;
        tables.insert_account(&second).map(drop)
    };
    assert!(refuses(&store, same).await);
}

pub(super) async fn a_subdomain_belongs_to_one_deployment_until_it_is_destroyed(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| join(tables, 1)).await;
    write(&store, |tables| deploy(tables, &[1])).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = deployment(tables, 2)?;
        second.subdomain = "app-1".parse().unwrap();
        tables.insert_deployment(&second)
    };
    assert!(refuses(&store, same).await);
    write(&store, |tables| {
        let name = "app-1".parse().unwrap();
        assert!(tables.subdomain_taken(&name)?);
        assert_eq!(tables.deployment_named(&name)?, Some(app(1)));
        destroy(tables, 1)?;
        assert!(!tables.subdomain_taken(&name)?);
        assert_eq!(tables.deployment_named(&name)?, None);
        Ok(())
    })
    .await;
    write(&store, same).await;
}

pub(super) async fn a_custom_domain_belongs_to_one_deployment_until_it_is_destroyed(
    bench: Arc<dyn Bench>,
) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| join(tables, 1)).await;
    let with = |n| {
        move |tables: &mut dyn crate::store::Tables| {
            let mut one = deployment(tables, n)?;
            one.custom_domain = Some("www.example.org".parse().unwrap());
            tables.insert_deployment(&one)
        }
    };
    write(&store, with(1)).await;
    assert!(refuses(&store, with(2)).await);
    write(&store, |tables| {
        let name = "www.example.org".parse().unwrap();
        assert!(tables.custom_domain_taken(&name)?);
        destroy(tables, 1)?;
        assert!(!tables.custom_domain_taken(&name)?);
        Ok(())
    })
    .await;
    write(&store, with(2)).await;
}

pub(super) async fn an_organisation_has_its_slug_alone_until_it_ends(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = org(2);
        second.slug = org(1).slug;
        tables.insert_org(&second)
    };
    assert!(refuses(&store, same).await);
    write(&store, |tables| {
        assert!(tables.org_slug_taken("org-1")?);
        tables.end_org(org_id(1), at(1))?;
        assert!(!tables.org_slug_taken("org-1")?);
        Ok(())
    })
    .await;
    write(&store, same).await;
}

pub(super) async fn a_team_has_its_slug_alone_in_its_organisation(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| tables.insert_org(&org(2))).await;
    let same = |org| {
        move |tables: &mut dyn crate::store::Tables| {
            let mut second = team(2, org);
            second.slug = team(1, 1).slug;
            assert_eq!(tables.team_slug_taken(org_id(org), &second.slug)?, org == 1);
            tables.insert_team(&second)
        }
    };
    assert!(refuses(&store, same(1)).await);
    write(&store, same(2)).await;
    // A role is one for each member, and a second one replaces it.
    let roles = write(&store, |tables| {
        tables.set_org_role(org_id(1), person(1), OrgRole::Admin, at(5))?;
        tables.org_members(org_id(1))
    });
    let roles = roles.await;
    assert_eq!((roles.len(), roles[0].role, roles[0].joined_at), (1, OrgRole::Admin, at(0)));
}

pub(super) async fn a_host_has_its_name_alone(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| join(tables, 1)).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = host(2);
        second.name = host(1).name;
        tables.upsert_host(&second)
    };
    assert!(refuses(&store, same).await);
    let found = read(&store, |tables| tables.host_named("host-1")).await;
    assert_eq!(found.unwrap().id, host_id(1));
}

pub(super) async fn a_tier_has_its_slug_alone(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| tables.insert_tier(&tier("large"))).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = tier("large");
        second.id = "another".to_owned();
        tables.insert_tier(&second)
    };
    assert!(refuses(&store, same).await);
}

pub(super) async fn a_key_has_its_hash_alone(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    write(&store, |tables| tables.insert_api_key(&key(1, 0))).await;
    let same = |tables: &mut dyn crate::store::Tables| {
        let mut second = key(2, 0);
        second.hash = key(1, 0).hash;
        tables.insert_api_key(&second)
    };
    assert!(refuses(&store, same).await);
}

pub(super) async fn a_user_code_is_of_one_device(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    let code = |device: &'static str| {
        move |tables: &mut dyn crate::store::Tables| {
            tables.insert_device_code(&DeviceCode {
                hash: hash(device),
                user_hash: hash("user"),
                client_id: "buddo-cli".to_owned(),
                scopes: "profile:read".parse().unwrap(),
                expires_at: at(10),
                interval: 5,
                polled_at: None,
                is_allowed: None,
                grant: None,
                used_at: None,
            })
        }
    };
    write(&store, code("one")).await;
    assert!(refuses(&store, code("two")).await);
    let (by_user, waiting) = read(&store, |tables| {
        let waiting = (tables.count_device_codes(at(9))?, tables.count_device_codes(at(10))?);
        Ok((tables.device_code_by_user(&hash("user"))?, waiting))
    })
    .await;
    assert_eq!((by_user.unwrap().hash, waiting), (hash("one"), (1, 0)));
}
