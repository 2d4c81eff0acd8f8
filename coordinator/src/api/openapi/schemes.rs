//! The document's statements about the server as a whole.

use serde_json::{Map, Value, json};

use crate::api::pages::cookie;
use crate::api::problem::CATALOGUE;
use crate::domain::identity::Scope;

/// For people who read the document.
const DESCRIPTION: &str = "\
Accounts, OAuth and deployments of Buddo.

**Errors** are `application/problem+json` (RFC 9457): programs decide by `code`, people read `detail`. \
The `type` of each is an entry of `/docs/errors`. The token endpoint and its siblings keep the errors \
of RFC 6749. A path that does not exist is 404 `not_found`, a method that a path does not have 405 \
`method_not_allowed` with `Allow`.

**Limits.** A request's head has at most 64 KiB (32 KiB over HTTP/2) and 100 headers, its body 1 MiB; JSON is nested at most \
127 deep. A body that does not arrive within 10 seconds is 408. Answers of limited endpoints say what \
is left in `RateLimit` and `RateLimit-Policy`; more is 429 with `Retry-After`.

**Lists** show 100 entries. `?limit=` asks for fewer, `Link: …; rel=\"next\"` names the next page.

**Retries.** Creating a deployment and rolling one back take an `Idempotency-Key`: for 24 hours the \
same request with the same key is answered as at first, also while the first is still under way. \
The key with another request is 422.

Every answer has an `X-Request-Id`; one that you send is kept, \
if it is 1 to 64 letters, digits, `-`, `_` and `.`. Quote it in a report.";

pub(super) fn info() -> Value {
    json!({
        "title": "Buddo",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    })
}

pub(super) fn tags() -> Value {
    json!([
        { "name": "accounts", "description": "Accounts, logins and one-time codes" },
        { "name": "oauth", "description": "Apps, tokens and what accounts allow" },
        { "name": "teams", "description": "Organisations, teams and API keys" },
        { "name": "deploy", "description": "Deployments" },
        {
            "name": "admin",
            "description": "Administration: for accounts that administer the platform, by the JWT of a \
                            login of the last 12 hours that was made with a one-time code",
        },
        { "name": "pages", "description": "Pages that people see in a browser" },
        { "name": "server", "description": "The server itself" },
    ])
}

pub(super) fn security(url: &str) -> Value {
    let offered = Scope::ALL.into_iter().filter(|scope| scope.is_offered());
    let scopes: Map<String, Value> =
        offered.map(|s| (s.as_str().to_owned(), s.in_words().into())).collect();
    json!({
        "login": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The JWT that `POST /api/auth/login` answers.",
        },
        "oauth": {
            "type": "oauth2",
            "description": "An OAuth access token, as `Authorization: Bearer`. Devices get one by \
                            RFC 8628 at `/api/oauth/device_authorization`, the CLI one for its login \
                            by RFC 8693.",
            "flows": {
                "authorizationCode": {
                    "authorizationUrl": format!("{url}/api/oauth/authorize"),
                    "tokenUrl": format!("{url}/api/oauth/token"),
                    "refreshUrl": format!("{url}/api/oauth/token"),
                    "scopes": scopes,
                },
            },
        },
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "buddo_key_…",
            "description": "An API key of a team, that `POST /api/teams/{team_id}/keys` answers. It needs \
                            the scope that stands beside it: `deployments:read` to look, \
                            `deployments:write` to change; writing does not include reading.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie::LOGIN,
            "description": "A browser that logged in at `/login`. What changes something must come \
                            from a page of this server, by `Origin` or `Sec-Fetch-Site`.",
        },
        "client": {
            "type": "http",
            "scheme": "basic",
            "description": "Client id and secret, both form-encoded first (RFC 6749, 2.3.1); or \
                            `client_id` and `client_secret` in the body.",
        },
        "browser": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie::SESSION,
            "description": "A browser that logged in to allow something to an app or a device. Forms carry `csrf` \
                            as well.",
        },
    })
}

pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "required": true,
            "description": "Names the request in logs.",
            "schema": { "type": "string", "minLength": 1 },
        },
        "RateLimit-Policy": {
            "required": true,
            "description": "Requests in seconds (draft-ietf-httpapi-ratelimit-headers).",
            "schema": { "type": "string" },
            "example": "\"default\";q=30;w=60",
        },
        "RateLimit": {
            "required": true,
            "description": "What is left, and the seconds until more is.",
            "schema": { "type": "string" },
            "example": "\"default\";r=29;t=42",
        },
        "Link": {
            "description": "The next page as `rel=\"next\"`, if there is one (RFC 8288).",
            "schema": { "type": "string" },
            "example": "</api/deploy/apps?limit=100&after=0198c0de-7a11-7b0d-8f6e-3d1c5a9e2b47>; rel=\"next\"",
        },
        "Retry-After": {
            "description": "Seconds to wait.",
            "schema": { "type": "integer", "minimum": 0 },
        },
    })
}

/// An example of a problem with `code`.
pub(super) fn example(code: &str, url: &str) -> Option<Value> {
    let kind = CATALOGUE.iter().find(|kind| kind.code == code)?;
    Some(json!({
        "type": format!("{url}/docs/errors#{code}"),
        "title": kind.title,
        "status": kind.status.as_u16(),
        "detail": kind.advice,
        "code": code,
        "error": kind.advice,
        "request_id": "0198c0de-7a11-7b0d-8f6e-3d1c5a9e2b47",
    }))
}
