//! Completes the document that the annotations yield.

use buddo_shared::api::problem::Problem;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;
use utoipa::{PartialSchema as _, ToSchema as _};

use super::schemes;
use crate::api::problem::{CATALOGUE, MEDIA_TYPE};

/// Responses added to operations: status, name of the shared response, codes.
const COMMON: [(u16, &str, &[&str]); 12] = [
    (400, "BadRequest", &["malformed_json", "invalid_request"]),
    (401, "Unauthorized", &["token_missing", "invalid_token", "wrong_token_kind"]),
    (403, "Forbidden", &["insufficient_scope", "account_suspended"]),
    (403, CROSS_SITE, &["account_suspended", "cross_site_request"]),
    (403, SUSPENDED, &["account_suspended"]),
    (408, "RequestTimeout", &["request_timeout"]),
    (413, "PayloadTooLarge", &["payload_too_large"]),
    (415, "UnsupportedMediaType", &["unsupported_media_type"]),
    (422, "Invalid", &["validation_failed"]),
    (429, "RateLimited", &["rate_limited"]),
    (500, "ServerFailed", &["internal"]),
    (503, "ServerBusy", &["overloaded", "storage_full"]),
];

const SUSPENDED: &str = "Suspended";
const CROSS_SITE: &str = "CrossSite";

const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// The whole document of a server reached at `url`.
pub(super) fn complete(api: &OpenApi, url: &str) -> Value {
    // A document built from types always serialises.
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["info"] = schemes::info();
    document["servers"] = json!([{ "url": url }]);
    document["tags"] = schemes::tags();
    document["components"]["securitySchemes"] = schemes::security(url);
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    for (name, schema) in schemas {
        document["components"]["schemas"][name] = serde_json::to_value(schema).unwrap_or_default();
    }
    document["components"]["headers"] = schemes::headers();
    let shared = common(url);
    document["components"]["responses"] = shared.clone();
    let paths = document["paths"].as_object_mut();
    for (_, item) in paths.into_iter().flatten() {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                let changes = !["get", "head", "options"].contains(&method);
                finish(operation, changes, url);
                refer(operation, &shared);
            }
        }
    }
    document
}

fn common(url: &str) -> Value {
    let responses = COMMON
        .iter()
        .map(|(status, name, codes)| ((*name).to_owned(), problem(*status, &words(codes), url)));
    Value::Object(responses.collect())
}

/// `` `one`, `two` ``.
fn words(codes: &[&str]) -> String {
    let quoted: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    quoted.join(", ")
}

/// A problem response; `description` names its codes.
fn problem(status: u16, description: &str, url: &str) -> Value {
    let mut media = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
    let examples: Map<String, Value> = codes_in(description)
        .filter_map(|code| {
            Some((code.to_owned(), json!({ "value": schemes::example(code, url)? })))
        })
        .collect();
    media["examples"] = Value::Object(examples);
    let mut headers = json!({ "X-Request-Id": header("X-Request-Id") });
    if status == 429 {
        headers["Retry-After"] = header("Retry-After");
    }
    json!({
        "description": description,
        "headers": headers,
        "content": { MEDIA_TYPE: media },
    })
}

/// The codes that a description names.
pub(super) fn codes_in(description: &str) -> impl Iterator<Item = &str> {
    let quoted = description.split('`').skip(1).step_by(2);
    quoted.filter(|word| CATALOGUE.iter().any(|kind| kind.code == *word))
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// Adds to one operation what its annotation need not repeat.
fn finish(operation: &mut Value, changes: bool, url: &str) {
    let limited = operation["tags"][0] != "server";
    let has_body = operation.get("requestBody").is_some();
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let asks = parameters.iter().any(|parameter| parameter["in"] != "path");
    let is_list = parameters.iter().any(|parameter| parameter["name"] == "after");
    let schemes: Vec<String> = operation["security"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_object()?.keys().next().cloned())
        .collect();
    let wants = |name: &str| schemes.iter().any(|scheme| scheme == name);
    let (login, session) = (wants("login"), wants("session"));
    let scoped = wants("oauth") || wants("key");
    let applies = |status: u16, name: &str| match (status, name) {
        (400 | 422, _) => has_body || asks,
        // The pages show their login form instead.
        (401, _) => login || scoped,
        (403, SUSPENDED) => login || session || scoped,
        (403, CROSS_SITE) => login && session && changes,
        (403, _) => scoped,
        (413 | 415, _) => has_body,
        (429, _) => limited,
        _ => true,
    };
    if let Some(operation) = operation.as_object_mut() {
        // If absent, the document's default would apply. This says: no credentials needed.
        operation.entry("security").or_insert_with(|| json!([]));
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, response) in responses.iter_mut() {
        declared(status, response, limited, url);
        if is_list && status == "200" {
            response["headers"]["Link"] = header("Link");
        }
    }
    for (status, name, codes) in COMMON {
        if !applies(status, name) {
            continue;
        }
        match responses.get_mut(&status.to_string()) {
            Some(own) => merge(own, status, codes, url),
            None => {
                responses.insert(status.to_string(), problem(status, &words(codes), url));
            }
        }
    }
}

/// Replaces whatever equals a shared response by a reference to it.
fn refer(operation: &mut Value, shared: &Value) {
    let responses = operation["responses"].as_object_mut();
    for (_, response) in responses.into_iter().flatten() {
        let shared =
            shared.as_object().and_then(|all| all.iter().find(|(_, one)| *one == response));
        if let Some((name, _)) = shared {
            *response = json!({ "$ref": format!("#/components/responses/{name}") });
        }
    }
}

/// A response declared by the annotation.
fn declared(status: &str, response: &mut Value, limited: bool, url: &str) {
    let status: u16 = status.parse().unwrap_or_default();
    if status >= 400 && response.get("content").is_none() {
        let description = response["description"].as_str().unwrap_or_default().to_owned();
        *response = problem(status, &description, url);
        return;
    }
    let Some(response) = response.as_object_mut() else { return };
    let headers = response.entry("headers").or_insert_with(|| json!({}));
    headers["X-Request-Id"] = header("X-Request-Id");
    if limited && status < 300 {
        headers["RateLimit-Policy"] = header("RateLimit-Policy");
        headers["RateLimit"] = header("RateLimit");
    }
}

/// Merges shared codes into an operation's own response of the same status.
fn merge(own: &mut Value, status: u16, codes: &[&str], url: &str) {
    let description = own["description"].as_str().unwrap_or_default().to_owned();
    let missing: Vec<&str> =
        codes.iter().copied().filter(|code| !codes_in(&description).any(|c| c == *code)).collect();
    if missing.is_empty() {
        return;
    }
    let all = format!("{description}; {}", words(&missing));
    let whole = problem(status, &all, url);
    let mut kept = own["content"].take();
    if let (Some(kept), Some(more)) = (kept.as_object_mut(), whole["content"].as_object()) {
        kept.extend(more.clone());
        own["content"] = Value::Object(kept.clone());
    }
    own["description"] = all.into();
    if let (Some(headers), Some(more)) =
        (own["headers"].as_object_mut(), whole["headers"].as_object())
    {
        headers.extend(more.clone());
    }
}
