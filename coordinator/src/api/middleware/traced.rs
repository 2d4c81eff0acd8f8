//! What is logged about a request. The client controls all of it, so it is bounded.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use buddo_shared::seldom::Seldom;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

/// The header with the request id.
pub(in crate::api) const REQUEST_ID: &str = "x-request-id";
/// The longest request id that is kept: a UUID has 36 characters.
const LONGEST_ID: usize = 64;
/// Maximum length of a logged path in characters.
const LONGEST_PATH: usize = 200;

/// Middleware: drops an invalid request id, so that the request gets a new one.
pub(in crate::api) async fn keep_sound_ids(mut request: Request, next: Next) -> Response {
    if !has_sound_id(request.headers()) {
        request.headers_mut().remove(REQUEST_ID);
    }
    next.run(request).await
}

fn has_sound_id(headers: &HeaderMap) -> bool {
    let mut ids = headers.get_all(REQUEST_ID).iter();
    ids.next().is_none_or(is_sound) && ids.next().is_none()
}

fn is_sound(id: &HeaderValue) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(letter)
}

/// Without the query: it may hold a code or a token.
pub(in crate::api) fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    tracing::info_span!(
        "request",
        method = %request.method(),
        path = beginning(request.uri().path()),
        id = id.unwrap_or_default(),
    )
}

fn beginning(path: &str) -> &str {
    let end = path.char_indices().nth(LONGEST_PATH).map(|(end, _)| end);
    end.and_then(|end| path.get(..end)).unwrap_or(path)
}

/// Logs answers. An intended refusal, e.g. for lack of capacity, is a warning for the administrator
/// and not an error; mass refusals are logged once a minute.
pub(in crate::api) fn answered() -> impl Fn(&Response, Duration, &tracing::Span) + Clone {
    let refusals = Arc::new(Seldom::default());
    move |response: &Response, latency: Duration, _: &tracing::Span| {
        let status = response.status().as_u16();
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            tracing::debug!(status, ?latency, "answered");
        } else if let Some(others) = refusals.turn(Instant::now().into_std()) {
            tracing::warn!(status, ?latency, others, "refused for now");
        } else {
            tracing::debug!(status, ?latency, "refused for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::testing::{World, heard};

    #[tokio::test]
    async fn a_valid_request_id_is_kept_and_any_other_replaced() {
        let world = World::new();
        let ask = async |ids: &[&str]| {
            let mut request = Request::get("/health");
            for id in ids {
                request = request.header(REQUEST_ID, *id);
            }
            let answer = world.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.headers.get_all(REQUEST_ID).iter().count(), 1, "{answer:?}");
            answer.header(REQUEST_ID).to_owned()
        };
        let longest = "x".repeat(LONGEST_ID);
        for id in ["r-1", "0190_a.B", &longest] {
            assert_eq!(ask(&[id]).await, id);
        }
        for ids in
            [&["a b"][..], &[""], &["a\"b"], &["a/b"], &[&*format!("{longest}x")], &["a", "b"]]
        {
            let id = ask(ids).await;
            assert!(id.len() == 36 && !ids.contains(&&*id), "{ids:?}: {id}");
        }
        assert_ne!(ask(&[]).await, ask(&[]).await);
    }

    #[tokio::test]
    async fn a_logged_path_is_cut_after_200_characters() {
        let (log, _guard) = heard();
        let world = World::new();
        world.get(&format!("/{}/z", "y".repeat(5000)), "").await;
        let text = log.text();
        assert!(text.contains(&"y".repeat(LONGEST_PATH - 1)), "{text}");
        assert!(!text.contains(&"y".repeat(LONGEST_PATH)), "{text}");
        assert_eq!(beginning(&"ä".repeat(300)), "ä".repeat(LONGEST_PATH));
        assert_eq!(beginning("/short"), "/short");
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_refusals_are_logged_as_warnings_once_a_minute() {
        let (log, _guard) = heard();
        let (answered, span) = (answered(), tracing::Span::none());
        let refused = StatusCode::SERVICE_UNAVAILABLE.into_response();
        for _ in 0..1000 {
            answered(&refused, Duration::ZERO, &span);
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        // One clone per request, as in the layer.
        answered.clone()(&refused, Duration::ZERO, &span);
        let text = log.text();
        let warned: Vec<&str> = text.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warned.len(), 2, "{warned:?}");
        assert!(warned[0].contains("others=0") && warned[1].contains("others=999"), "{warned:?}");
        assert_eq!(text.lines().filter(|line| line.contains("DEBUG")).count(), 999);
    }
}
