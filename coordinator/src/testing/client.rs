//! Requests to the router, as programs and browsers send them.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use buddo_runtime::clock::Clock as _;
use buddo_shared::api::oauth;
use buddo_shared::model::id::CLI_CLIENT_ID;
use cookie::{Cookie, SameSite};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::World;
use crate::store::StoreError;

/// The password of every account.
pub(crate) const PASSWORD: &str = "canary-password-1";

/// The router's answer, read completely.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// The text as JSON; null if it is not JSON.
    pub(crate) body: Value,
}

impl Answer {
    /// `(status, code)` of a problem.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }

    /// The pointers of a validation problem.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors.filter_map(|error| error["pointer"].as_str()).collect()
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        assert!(!self.body.is_null(), "no JSON: {self:?}");
        self.body.clone()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The cookie it sets, as a request sends it back.
    pub(crate) fn cookie(&self) -> String {
        let set: Vec<_> = self.cookies().map(|cookie| cookie.stripped().to_string()).collect();
        set.join("; ")
    }

    /// All cookies that it sets.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = Cookie<'_>> {
        let set = self.headers.get_all(SET_COOKIE).iter();
        set.map(|value| Cookie::parse(value.to_str().unwrap()).unwrap())
    }

    /// Asserts that its first cookie is for the whole host, for `seconds`, out of reach of scripts
    /// and of requests that other sites make, and returns its name and value.
    pub(crate) fn guarded_cookie(&self, seconds: i64) -> (String, String) {
        let cookie = self.cookies().next().unwrap();
        let expected = Cookie::build((cookie.name(), cookie.value()))
            .path("/")
            .max_age(cookie::time::Duration::seconds(seconds))
            .secure(true)
            .http_only(true)
            .same_site(SameSite::Lax);
        assert_eq!(cookie, expected.build());
        (cookie.name().to_owned(), cookie.value().to_owned())
    }

    /// The value of a hidden field of a page.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start).unwrap_or_else(|| panic!("{self:?}"));
        let value = rest.split('"').next().unwrap();
        value.replace("&amp;", "&").replace("&#x2f;", "/").replace("&quot;", "\"")
    }
}

impl World {
    /// Sends one request unchanged.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let peer = SocketAddr::from(([192, 0, 2, 1], 40_000));
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        if parts.status.is_client_error() || parts.status.is_server_error() {
            self.refusals.lock().unwrap().push(format!("{:?} {text}", parts.headers));
        }
        Answer { status: parts.status, headers: parts.headers, text, body }
    }

    /// One request with a JSON body.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// GET, with a bearer token unless it is empty.
    pub(crate) async fn get(&self, path: &str, bearer: &str) -> Answer {
        self.call("GET", path, Some(bearer).filter(|token| !token.is_empty()), None).await
    }

    /// POST of JSON, with a bearer token unless it is empty.
    pub(crate) async fn post(&self, path: &str, bearer: &str, body: Value) -> Answer {
        self.call("POST", path, Some(bearer).filter(|token| !token.is_empty()), Some(body)).await
    }

    /// GET by a browser.
    pub(crate) async fn browse(&self, path: &str, cookie: &str) -> Answer {
        let request = Request::get(path).header(COOKIE, cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// POST of a form, with one additional header.
    pub(crate) async fn form(
        &self,
        path: &str,
        (name, value): (&str, &str),
        pairs: &[(&str, &str)],
    ) -> Answer {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(name, value);
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    pub(crate) async fn register(&self, name: &str) -> Answer {
        let body = json!({
            "email": format!("{name}@example.com"), "username": name, "password": PASSWORD,
        });
        self.post("/api/auth/register", "", body).await
    }

    /// Logs in; returns the JWT.
    pub(crate) async fn log_in(&self, name: &str) -> String {
        let body = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
        let answer = self.post("/api/auth/login", "", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Creates an account with a confirmed address; returns its JWT.
    pub(crate) async fn member(&self, name: &str) -> String {
        let answer = self.register(name).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["user"]["id"].as_str().unwrap().parse().unwrap();
        let now = self.clock.now();
        let confirm: Result<(), StoreError> =
            self.state.store.write(move |tables| tables.confirm_email(id, now)).await;
        confirm.unwrap();
        self.log_in(name).await
    }

    /// The id of an account.
    pub(crate) async fn account_id(&self, name: &str) -> uuid::Uuid {
        let email = crate::domain::identity::Email::parse(&format!("{name}@example.com")).unwrap();
        let found: Result<_, StoreError> =
            self.state.store.read(move |tables| tables.account_by_email(&email)).await;
        *found.unwrap().unwrap().id.as_uuid()
    }

    /// The CLI's tokens for a login.
    pub(crate) async fn cli_tokens(&self, jwt: &str) -> Value {
        let body = json!({
            "grant_type": oauth::TOKEN_EXCHANGE,
            "client_id": CLI_CLIENT_ID,
            "subject_token": jwt,
            "subject_token_type": oauth::TOKEN_TYPE_JWT,
            "scope": oauth::DEPLOY_MANAGE,
        });
        let answer = self.post("/api/oauth/token", "", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Registers an operator with a confirmed address and returns an access token, as `buddo login`
    /// gets it.
    pub(crate) async fn operator(&self, name: &str) -> String {
        let tokens = self.cli_tokens(&self.member(name).await).await;
        tokens["access_token"].as_str().unwrap().to_owned()
    }
}
