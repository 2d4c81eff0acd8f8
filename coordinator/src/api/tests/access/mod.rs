//! Every route × every kind of principal, against a reviewed snapshot; and that the rule table and
//! the router list the same routes.

mod kinds;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kinds::KINDS;
use stage::Stage;

use crate::api::router;
use crate::auth::access::policy::{TABLE, rule};
use crate::testing::World;

/// The routes that a router serves. axum shows them only in its `Debug` output; should that change,
/// the test below finds none and fails.
fn served(router: &axum::Router) -> BTreeSet<(String, String)> {
    let text = format!("{router:?}");
    // The fallback router comes after it.
    let (routes, node) = text.split_once("node: Node").unwrap();
    let node = node.split("PathRouter").next().unwrap();
    let ids = |text: &str| -> Vec<(u32, usize)> {
        let found = text.match_indices("RouteId(");
        found
            .map(|(at, mark)| {
                let number = text[at + mark.len()..].split(')').next().unwrap();
                (number.parse().unwrap(), at)
            })
            .collect()
    };
    let mut paths = BTreeMap::new();
    for (id, at) in ids(node) {
        let path = node[at..].split('"').nth(1).unwrap_or_default();
        paths.insert(id, path.to_owned());
    }
    let mut all = BTreeSet::new();
    for (id, at) in ids(routes) {
        let (_, rest) = routes[at..].split_once("allow_header: Bytes(b\"").unwrap();
        let methods = rest.split('"').next().unwrap();
        for method in methods.split(',').filter(|method| *method != "HEAD") {
            all.insert((method.to_owned(), paths[&id].clone()));
        }
    }
    all
}

#[tokio::test]
async fn every_route_has_a_rule_and_every_rule_a_route() {
    let world = World::new();
    let mut all = served(&router::build(world.api_state()));
    assert!(all.len() > 50, "{all:?}");
    all.extend(served(&router::build_for_hosts(world.api_state())));
    let ruled: BTreeSet<(String, String)> =
        TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(ruled.len(), TABLE.len(), "a route is listed twice");
    let without: Vec<_> = all.difference(&ruled).collect();
    assert!(without.is_empty(), "routes without a rule in access::policy::TABLE: {without:?}");
    let stale: Vec<_> = ruled.difference(&all).collect();
    assert!(stale.is_empty(), "rules without a route: {stale:?}");
}

#[test]
fn rules_match_methods_and_paths_exactly() {
    assert!(rule("GET", "/api/orgs").is_some() && rule("HEAD", "/api/orgs").is_some());
    assert!(rule("PATCH", "/api/orgs").is_none());
    assert!(rule("GET", "/api/orgs/").is_none());
    assert!(rule("GET", "").is_none());
}

#[tokio::test]
async fn every_route_and_principal_matches_the_snapshot() {
    let stage = Stage::set().await;
    let mut text = String::new();
    for (method, path, _) in TABLE {
        let mut answers: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for kind in KINDS {
            let status = stage.ask(method, path, kind).await;
            answers.entry(status).or_default().push(kind.name);
        }
        let most = answers.iter().max_by_key(|(_, kinds)| kinds.len()).map(|(status, _)| *status);
        writeln!(text, "{method} {path}").unwrap();
        for (status, kinds) in &answers {
            // The most common status is shown once, so that the exceptions stand out.
            let kinds = match (answers.len(), Some(*status) == most) {
                (1, _) => "everybody".to_owned(),
                (_, true) => "all others".to_owned(),
                (_, false) => kinds.join(", "),
            };
            writeln!(text, "  {status} {kinds}").unwrap();
        }
    }
    insta::assert_snapshot!(text);
}
