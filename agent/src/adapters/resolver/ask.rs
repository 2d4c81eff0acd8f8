//! Caddy's `ask`: may this name have a certificate? Only for names in the live table.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::accept;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::table::TableReader;
use crate::model::live_table::LiveTable;

/// Concurrent connections; further ones wait in the socket's queue.
const MAX_CONNECTIONS: usize = 256;

/// How long a connection may take for the head of its (next) request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// Answers until `stop`.
pub(super) async fn serve(
    listener: &TcpListener,
    table: &Arc<TableReader>,
    stop: &CancellationToken,
) {
    let serve = |stream, _peer, place| {
        let table = Arc::clone(table);
        async move {
            connection(stream, table).await;
            drop(place);
        }
    };
    accept::each(listener, MAX_CONNECTIONS, stop, serve).await;
}

async fn connection(stream: TcpStream, table: Arc<TableReader>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = respond(&request, table.current().as_deref());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(reason = %error, "a connection for ask ended");
    }
}

fn respond<B>(request: &Request<B>, table: Option<&LiveTable>) -> Response<Full<Bytes>> {
    let (status, words) = match (request.method(), request.uri().path(), table) {
        // Caddy issues nothing then either, but nobody is told that the app does not exist.
        (&Method::GET, "/ask", None) => {
            (StatusCode::SERVICE_UNAVAILABLE, "not now: the live table cannot be read\n")
        }
        (&Method::GET, "/ask", Some(table)) => match judge(request.uri().query(), table) {
            Ok(()) => (StatusCode::OK, "yes\n"),
            Err(reason) => (StatusCode::NOT_FOUND, reason),
        },
        _ => (StatusCode::NOT_FOUND, "ask for /ask?domain=NAME\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(words.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Whether the query's `domain` may have a certificate, or why not. Our names never need escaping
/// in a query, so an escaped name is not ours.
fn judge(query: Option<&str>, table: &LiveTable) -> Result<(), &'static str> {
    let domain = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("domain="))
        .ok_or("no: the query has no domain\n")?
        .to_ascii_lowercase();
    if table.domains.contains_key(&domain) {
        return Ok(());
    }
    let app = domain.strip_suffix(&table.zone).and_then(|rest| rest.strip_suffix('.'));
    match app {
        Some(app) if !table.zone.is_empty() && table.apps.contains_key(app) => Ok(()),
        Some(_) => Err("no: this host has no app of that name\n"),
        None => Err("no: this host serves no app at that name\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::live_table::Target;

    fn table() -> LiveTable {
        LiveTable {
            zone: "apps.example.test".to_owned(),
            apps: [("one".to_owned(), Target::Stopped)].into(),
            domains: [("www.example.org".to_owned(), "one".to_owned())].into(),
        }
    }

    fn status(uri: &str) -> u16 {
        let request = Request::builder().uri(uri).body(()).unwrap();
        respond(&request, Some(&table())).status().as_u16()
    }

    #[test]
    fn without_a_table_ask_answers_503() {
        let ask = |uri: &str| respond(&Request::get(uri).body(()).unwrap(), None).status();
        assert_eq!(ask("/ask?domain=one.apps.example.test"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask("/other"), StatusCode::NOT_FOUND);
    }

    #[test]
    fn only_names_in_the_table_may_get_certificates() {
        assert_eq!(status("/ask?domain=one.apps.example.test"), 200);
        assert_eq!(status("/ask?x=y&domain=ONE.apps.example.test"), 200);
        assert_eq!(status("/ask?domain=www.example.org"), 200);
        for domain in [
            "two.apps.example.test",
            "a.one.apps.example.test",
            "apps.example.test",
            ".apps.example.test",
            "oneapps.example.test",
            "one.apps.example.test.evil.org",
            "example.org",
            "%6fne.apps.example.test",
            "",
        ] {
            assert_eq!(status(&format!("/ask?domain={domain}")), 404, "{domain}");
        }
        assert_eq!(status("/ask"), 404);
        assert_eq!(status("/other?domain=one.apps.example.test"), 404);
    }

    #[test]
    fn an_empty_table_allows_no_certificates() {
        assert!(judge(Some("domain=one."), &LiveTable::default()).is_err());
        assert!(judge(Some("domain=one"), &LiveTable::default()).is_err());
    }
}
