//! A registry that misbehaves on demand: it sits in front of the world's own, on the port that the
//! names of `ghcr.io` lead to.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::world::{PortOf, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Behaves like the registry behind it.
    Good,
    /// Every answer is 429 'too many requests' (RFC 6585).
    Busy,
    /// Layers start and never end.
    Stalling,
    /// Layers do not match their digests.
    Lying,
}

/// The registry; it ends when it is dropped.
#[derive(Debug)]
pub struct Moody {
    mood: watch::Sender<Mood>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Front {
    mood: watch::Receiver<Mood>,
    behind: String,
    client: reqwest::Client,
}

impl Moody {
    /// Serves in front of the world's registry.
    pub async fn before(world: &World) -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (mood, now) = watch::channel(Mood::Good);
        let front = Front {
            mood: now,
            behind: format!("http://{}", world.layout().address(PortOf::Registry)),
            client: reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?,
        };
        let listener = TcpListener::bind(world.layout().address(PortOf::Spare)).await?;
        let router = Router::new().fallback(answer).with_state(Arc::new(front));
        let serving = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { mood, _serving: AbortOnDropHandle::new(serving) })
    }

    /// Behaves this way from now on.
    pub fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let mood = *front.mood.borrow();
    if mood == Mood::Busy {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
        let mut response = plain(StatusCode::TOO_MANY_REQUESTS, Body::from(body));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    match front.forward(request, mood).await {
        Ok(response) => response,
        Err(error) => plain(StatusCode::BAD_GATEWAY, Body::from(error.to_string())),
    }
}

fn plain(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl Front {
    async fn forward(&self, request: Request, mood: Mood) -> reqwest::Result<Response> {
        let path = request.uri().path().to_owned();
        let mut headers: HeaderMap = request.headers().clone();
        headers.remove(header::HOST);
        let sent = self.client.request(request.method().clone(), format!("{}{path}", self.behind));
        let answer = sent.headers(headers).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        // Configurations are blobs, too, and small.
        let layer = path.contains("/blobs/") && bytes.len() > 100_000;
        let body = match mood {
            Mood::Stalling if layer => begun(&bytes),
            Mood::Lying if layer => Body::from(vec![0; bytes.len()]),
            _ => Body::from(bytes),
        };
        let mut response = plain(status, body);
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// The first bytes of a body, and never the rest.
fn begun(bytes: &Bytes) -> Body {
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes.slice(..1_000))]);
    Body::from_stream(first.chain(futures_util::stream::pending()))
}
