//! The document and the router agree, and what the document says is true.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use serde_json::Value;

use super::complete::codes_in;
use crate::api::problem::CATALOGUE;
use crate::api::router;
use crate::auth::access::Right;
use crate::auth::access::policy::{self, Rule};
use crate::domain::identity::{KeyScope, OrgRole, Scope, TeamRole};
use crate::domain::mailed_link;
use crate::testing::World;

/// What the document says of mailed links, and what holds.
#[tokio::test]
async fn the_document_states_the_lifetimes_of_mailed_links() {
    let document = document(&World::new()).await;
    let token = |schema: &str| {
        let told = &document["components"]["schemas"][schema]["properties"]["token"]["description"];
        told.as_str().unwrap().to_owned()
    };
    let forgot = &document["paths"]["/api/auth/forgot-password"]["post"]["description"];
    for (text, lifetime) in [
        (token("VerifyEmail"), mailed_link::VERIFICATION),
        (token("AcceptInvitation"), mailed_link::INVITATION),
        (forgot.as_str().unwrap().replace('\n', " "), mailed_link::ACCOUNT_CHANGE),
    ] {
        assert!(text.contains(&lifetime.to_string()), "{lifetime}: {text}");
    }
}

const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "options"];

async fn document(world: &World) -> Value {
    world.get("/.well-known/openapi.json", "").await.json()
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(|(method, operation)| (path.clone(), method.clone(), operation.clone()))
    });
    all.collect()
}

/// The paths of a router. `Debug` is the only way to get them.
fn paths_of(router: &axum::Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let rest = &text[text.find("paths: {").unwrap()..];
    let quoted = rest.split('"').skip(1).step_by(2);
    let paths = quoted.take_while(|word| word.starts_with('/'));
    // To axum, the fallback is a route, too.
    let own = paths.filter(|path| *path != "/" && !path.contains("__private"));
    own.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_route_exists() {
    let world = World::new();
    let document = document(&world).await;
    let routes = paths_of(&router::build(world.api_state()));
    let documented: BTreeSet<String> =
        operations(&document).into_iter().map(|(path, _, _)| path).collect();
    assert!(routes.len() > 40, "{routes:?}");
    assert_eq!(routes, documented);
    let operations: BTreeSet<(String, String)> =
        operations(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
    for path in routes {
        let address = path.replace(['{', '}'], "");
        for method in METHODS {
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&address);
            let answer = world.send(request.body(Body::empty()).unwrap()).await;
            let is_there = answer.status != 405;
            let is_said = operations.contains(&(path.clone(), method.to_owned()));
            assert_eq!(is_there, is_said, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn operations_have_a_unique_id_a_summary_a_description_and_a_tag() {
    let world = World::new();
    let document = document(&world).await;
    let tags: Vec<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap().to_owned();
        assert!(names.insert(name.clone()), "{name} is there twice");
        assert!(
            operation["summary"].as_str().is_some_and(|text| !text.contains('`')),
            "{method} {path}"
        );
        let described = operation["description"].as_str().is_some_and(|text| text.len() > 10);
        assert!(described, "{method} {path} needs a description below its summary");
        // Client generators cannot handle a body of two kinds.
        let bodies = operation["requestBody"]["content"].as_object();
        assert!(bodies.is_none_or(|bodies| bodies.len() == 1), "{method} {path}");
        assert!(tags.contains(&operation["tags"][0].as_str().unwrap()), "{method} {path}");
    }
}

#[tokio::test]
async fn every_reference_resolves() {
    let world = World::new();
    let document = document(&world).await;
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        match value {
            Value::Object(members) => open.extend(members.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_documented_error_code_belongs_to_its_status() {
    let world = World::new();
    let document = document(&world).await;
    let mut named = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = match response["$ref"].as_str() {
                Some(reference) => document.pointer(&reference[1..]).unwrap(),
                None => response,
            };
            let description = response["description"].as_str().unwrap();
            assert!(!description.is_empty(), "{method} {path} {status}");
            let is_problem = response["content"].get("application/problem+json").is_some();
            let codes: Vec<&str> = codes_in(description).collect();
            assert_eq!(is_problem, !codes.is_empty(), "{method} {path} {status}: {description}");
            for code in codes {
                let kind = CATALOGUE.iter().find(|kind| kind.code == code).unwrap();
                assert_eq!(kind.status.as_str(), status, "{method} {path}: {code}");
                named.insert(code.to_owned());
            }
        }
    }
    // Left out: codes of the hosts' operations, and of the fallback.
    let elsewhere = ["method_not_allowed", "not_a_host", "host_locked", "clock_doubted"];
    for kind in CATALOGUE {
        let is_named = named.contains(kind.code);
        assert_eq!(is_named, !elsewhere.contains(&kind.code), "{}", kind.code);
    }
}

#[tokio::test]
async fn operations_that_need_a_token_are_documented_as_such() {
    let world = World::new();
    let document = document(&world).await;
    for (path, method, operation) in operations(&document) {
        let address = path.replace(['{', '}'], "");
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(&address);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        let security = &operation["security"][0];
        let wants = security.get("login").or(security.get("oauth")).is_some();
        let refused = answer.refusal() == (401, "token_missing");
        assert_eq!(refused, wants, "{method} {path}: {answer:?}");
    }
}

/// The security of each operation in the document matches what the gate requires.
#[tokio::test]
async fn each_operation_names_the_credentials_that_its_rule_takes() {
    let world = World::new();
    let document = document(&world).await;
    for (path, method, operation) in operations(&document) {
        let rule = policy::rule(&method.to_uppercase(), &path).unwrap();
        let wanted: &[&str] = match rule {
            // `[]`, or what only some of these read: a client's secret, a page's cookie.
            Rule::Public | Rule::Host => {
                let asked = operation["security"].as_array().unwrap();
                let other = |one: &Value| {
                    let mut names = one.as_object().unwrap().keys();
                    names.all(|name| ["client", "browser", "session"].contains(&name.as_str()))
                };
                assert!(asked.iter().all(other), "{method} {path}: {asked:?}");
                continue;
            }
            Rule::Owner | Rule::OwnerCountedApart => &["login", "session"],
            Rule::Member => &["login", "session", "oauth teams:manage"],
            Rule::Client(Scope::ProfileRead) => &["oauth profile:read"],
            Rule::Client(_) => panic!("{method} {path}: say which scope"),
            Rule::Deploy(Right::Read) => &["oauth deploy:manage", "key deployments:read"],
            Rule::Deploy(Right::Write) => &["oauth deploy:manage", "key deployments:write"],
            Rule::Admin => &["login"],
        };
        let said: Vec<String> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| one.as_object().unwrap())
            .map(|(name, scopes)| {
                let scopes = scopes.as_array().unwrap().iter();
                scopes.fold(name.clone(), |all, scope| format!("{all} {}", scope.as_str().unwrap()))
            })
            .collect();
        assert_eq!(said, wanted, "{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("401") && responses.contains_key("403"), "{method} {path}");
    }
}

#[tokio::test]
async fn documented_roles_and_scopes_match_the_parsers() {
    let world = World::new();
    let document = document(&world).await;
    let schemas = &document["components"]["schemas"];
    for name in ["CreateKey", "ApiKey"] {
        let words = schemas[name]["properties"]["scopes"]["items"]["enum"].as_array().unwrap();
        let scopes = words.iter().map(|word| word.as_str().unwrap().parse::<KeyScope>().unwrap());
        let wanted =
            KeyScope::ALL.into_iter().filter(|scope| scope.is_offered() || name == "ApiKey");
        assert_eq!(scopes.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{name}");
    }
    let words = |name: &str, role: &str| -> Vec<String> {
        let pattern = schemas[name]["properties"][role]["pattern"].as_str().unwrap();
        let pattern = pattern.trim_start_matches("^(").trim_end_matches(")$");
        pattern.split('|').map(str::to_owned).collect()
    };
    for (name, role) in [("Org", "role"), ("Invite", "role"), ("Invitation", "role")] {
        let roles = words(name, role).into_iter().map(|word| word.parse::<OrgRole>().unwrap());
        assert_eq!(roles.count(), 3, "{name}");
    }
    for (name, role) in [("Team", "role"), ("Invite", "teamRole"), ("Invitation", "teamRole")] {
        let roles = words(name, role).into_iter().map(|word| word.parse::<TeamRole>().unwrap());
        assert_eq!(roles.count(), 3, "{name}");
    }
    for name in ["Member", "SetRole"] {
        let known =
            |word: &String| word.parse::<OrgRole>().is_ok() || word.parse::<TeamRole>().is_ok();
        let words = words(name, "role");
        assert!(words.len() == 6 && words.iter().all(known), "{name}: {words:?}");
    }
}

/// Reviewed: a change of the snapshot is a change of the interface.
#[tokio::test]
async fn the_document_matches_the_snapshot() {
    let world = World::new();
    insta::assert_json_snapshot!("openapi", document(&world).await, {
        ".info.version" => "[version]",
        ".info.description" => "[description]",
    });
}

#[tokio::test]
async fn the_page_shows_every_operation_and_schema_and_is_self_contained() {
    let world = World::new();
    let document = document(&world).await;
    let page = world.get("/docs", "").await;
    assert_eq!(page.status, 200, "{page:?}");
    for (path, _, operation) in operations(&document) {
        let id = format!("<h3 id=\"{}\">", operation["operationId"].as_str().unwrap());
        assert!(page.text.contains(&id), "{id}");
        let path = path.replace('/', "&#x2f;");
        assert!(page.text.contains(&path), "{path}");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.text.contains(&format!("id=\"schema-{name}\"")), "{name}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for foreign in ["<script", "src=", "<link", "style=\"", "@import", "url("] {
        assert!(!page.text.contains(foreign), "{foreign}");
    }
    // Each link within the page has a target on it.
    for target in page.text.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.text.contains(&format!("id=\"{target}\"")), "{target}");
    }
}

#[tokio::test]
async fn every_error_code_has_an_anchor_on_the_errors_page() {
    let world = World::new();
    let page = world.get("/docs/errors", "").await;
    for kind in CATALOGUE {
        assert!(page.text.contains(&format!("id=\"{}\"", kind.code)), "{}", kind.code);
    }
}
