//! Receives the code of `buddo login --web` from the browser: a loopback address with a temporary
//! port (RFC 8252, 7.3), open until one answer to our own request has arrived.
//!
//! ```text
//! browser ─ GET /callback?code=…&state=…&iss=… ─► connection ─► outcome ─► waiter
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buddo_shared::model::secret::Secret;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::Url;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::pkce::random_text;

const PATH: &str = "/callback";

/// Browsers open a few connections in advance and send nothing on most of them.
const MOST_CONNECTIONS: usize = 32;
/// How long one of them may take to send its request.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// What the browser brought.
#[derive(Debug)]
pub(crate) enum Outcome {
    Code(Secret),
    /// The API's error code, and its explanation.
    Refused {
        /// One of RFC 6749, 4.1.2.1.
        error: String,
        description: String,
    },
}

/// An open port that waits for a browser.
#[derive(Debug)]
pub(crate) struct Callback {
    listener: TcpListener,
    port: u16,
    expected: Arc<Expected>,
}

/// What an answer to our request must carry.
#[derive(Debug)]
struct Expected {
    /// The request's `state` (RFC 6749, 10.12).
    state: Secret,
    /// The API's issuer (RFC 9207, 2.4).
    issuer: String,
}

impl Callback {
    /// Opens a port for the answer of `issuer`.
    pub(crate) async fn open(issuer: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let expected = Arc::new(Expected { state: random_text(), issuer });
        Ok(Self { listener, port, expected })
    }

    /// Where the browser is redirected.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// What the request must carry so that its answer can be recognised.
    pub(crate) fn state(&self) -> &str {
        self.expected.state.expose()
    }

    /// Waits for the answer; anything else on the port is refused.
    pub(crate) async fn outcome(self) -> io::Result<Outcome> {
        let (found, mut outcomes) = mpsc::channel(1);
        // Dropped at the end, with any connections still open.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(outcome) = outcomes.recv() => return Ok(outcome),
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => {
                    let (stream, _) = accepted?;
                    if connections.len() < MOST_CONNECTIONS {
                        connections.spawn(serve(stream, self.expected.clone(), found.clone()));
                    }
                }
            }
        }
    }
}

/// One request. Its outcome is passed on once the browser has its answer.
async fn serve(stream: TcpStream, expected: Arc<Expected>, found: mpsc::Sender<Outcome>) {
    let slot = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (response, outcome) = answer(&request, &expected);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A browser that disconnects early has already delivered its outcome.
    let _ = served.await;
    let outcome = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(outcome) = outcome {
        // Nobody is waiting for a second answer.
        let _ = found.send(outcome).await;
    }
}

fn answer(
    request: &Request<Incoming>,
    expected: &Expected,
) -> (Response<Full<Bytes>>, Option<Outcome>) {
    if request.method() != Method::GET || request.uri().path() != PATH {
        return (page(StatusCode::NOT_FOUND, "There is nothing here."), None);
    }
    match read(request.uri().query().unwrap_or_default(), expected) {
        Some(outcome @ Outcome::Code(_)) => {
            let text = "Go back to the terminal: buddo continues there. You can close this page.";
            (page(StatusCode::OK, text), Some(outcome))
        }
        Some(outcome) => {
            let text = "Access was denied, and buddo has been told. You can close this page.";
            (page(StatusCode::OK, text), Some(outcome))
        }
        None => {
            let text = "This is not the answer that buddo is waiting for.";
            (page(StatusCode::BAD_REQUEST, text), None)
        }
    }
}

/// What an answer says; `None` if it is not an answer to our request.
fn read(query: &str, expected: &Expected) -> Option<Outcome> {
    // The same parser as the API's, which needs a complete URL.
    let url = Url::parse(&format!("http://127.0.0.1{PATH}?{query}")).ok()?;
    let mut values = HashMap::new();
    for (name, value) in url.query_pairs() {
        if values.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    let state = Secret::new(values.remove("state")?);
    if state != expected.state || values.remove("iss")? != expected.issuer {
        return None;
    }
    if let Some(error) = values.remove("error") {
        let description = values.remove("error_description").unwrap_or_default();
        return Some(Outcome::Refused { error, description });
    }
    values.remove("code").map(|code| Outcome::Code(Secret::new(code)))
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>buddo</title>\
         <main><h1>buddo login</h1><p>{text}</p></main></html>"
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected { state: Secret::new("mark"), issuer: "https://api.example".to_owned() }
    }

    fn code(query: &str) -> Option<String> {
        match read(query, &expected())? {
            Outcome::Code(code) => Some(code.expose().to_owned()),
            Outcome::Refused { error, .. } => Some(format!("refused: {error}")),
        }
    }

    #[test]
    fn rfc9207_2_4_state_and_issuer_must_match() {
        let iss = "iss=https%3A%2F%2Fapi.example";
        assert_eq!(code(&format!("code=c%20d&state=mark&{iss}")).as_deref(), Some("c d"));
        let refused = code(&format!("error=access_denied&state=mark&{iss}"));
        assert_eq!(refused.as_deref(), Some("refused: access_denied"));
        for other in [
            "",
            "code=c",
            "code=c&state=mark",
            &format!("code=c&{iss}"),
            &format!("code=c&state=other&{iss}"),
            "code=c&state=mark&iss=https%3A%2F%2Fevil.example",
            &format!("state=mark&{iss}"),
            &format!("code=c&code=d&state=mark&{iss}"),
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }
}
