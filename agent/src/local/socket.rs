//! The local socket: how people on the host query the agent. 0600, HTTP/1.1, JSON.
//!
//! ```text
//! buddo-agent status|explain|… ── GET /v1/… ──► agent.sock ──► the last pass's snapshot
//! ```
//!
//! It is read-only; nothing can be changed here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use buddo_runtime::bounded::{Bounded, CONNECTIONS};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::host::metrics::Scrape;
use crate::local::explain::explain;
use crate::model::document::Document;
use crate::model::snapshot::HostSnapshot;
use crate::ports::RouteFiles;
use crate::reconcile::report::Status;

/// The sources of the socket's answers.
#[derive(Clone)]
pub struct Sources {
    /// The last pass's snapshot.
    pub snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    /// The document in force.
    pub document: watch::Receiver<Option<Arc<Document>>>,
    pub routes: Arc<dyn Fn() -> RouteFiles + Send + Sync>,
    pub status: Status,
    pub scrape: Scrape,
}

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the local socket {path}; does its folder exist, and is it writable?")]
pub struct LocalError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Binds the socket for its owner alone. A socket left by a dead agent is replaced; one that
/// answers belongs to another agent.
pub fn bind(path: &Path) -> Result<UnixListener, LocalError> {
    let error = |source| LocalError { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(error)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(error(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "another agent answers there",
        )));
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    // Bound under another name first: nobody can connect before the mode is set.
    let hidden = path.with_extension("new");
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(error)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
    std::fs::rename(&hidden, path).map_err(error)?;
    Ok(listener)
}

/// Answers until `stop`.
pub async fn serve(
    listener: UnixListener,
    sources: Sources,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = Bounded::new(listener, CONNECTIONS);
    axum::serve(listener, router(sources)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/explain", get(explanation))
        .route("/v1/document", get(document))
        .route("/v1/routes", get(routes))
        .route("/v1/events", get(events))
        .route("/metrics", get(metrics))
        .with_state(sources)
}

/// An answer that says what is wrong.
fn problem(status: StatusCode, detail: impl Into<String>) -> Response {
    let detail = detail.into();
    let body = BTreeMap::from([("detail", detail)]);
    (status, [("content-type", "application/problem+json")], Json(body).into_response())
        .into_response()
}

/// The snapshot, awaited: a query in the agent's first moments is answered, not refused.
async fn snapshot(sources: &Sources) -> Result<Arc<HostSnapshot>, Response> {
    let mut snapshot = sources.snapshot.clone();
    let seen = snapshot.wait_for(Option::is_some);
    let seen = tokio::time::timeout(Duration::from_secs(5), seen).await;
    let seen = seen.ok().and_then(Result::ok).and_then(|snapshot| snapshot.clone());
    seen.ok_or_else(|| {
        problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent has not looked at the host yet; is Podman's service running?",
        )
    })
}

async fn status(State(sources): State<Sources>) -> Result<Json<HostSnapshot>, Response> {
    Ok(Json(snapshot(&sources).await?.as_ref().clone()))
}

#[derive(Deserialize)]
struct WhichApp {
    app: String,
}

async fn explanation(
    State(sources): State<Sources>,
    Query(WhichApp { app }): Query<WhichApp>,
) -> Result<Response, Response> {
    let snapshot = snapshot(&sources).await?;
    if !snapshot.joined {
        return Err(problem(StatusCode::NOT_FOUND, NOT_JOINED));
    }
    let found = snapshot.deployments.iter().find(|deployment| {
        deployment.subdomain.as_ref() == Some(&app)
            || deployment.host.as_ref() == Some(&app)
            || deployment.status.id.to_string() == app
    });
    match found {
        Some(deployment) => Ok(Json(explain(deployment, &snapshot.host)).into_response()),
        None => Err(problem(
            StatusCode::NOT_FOUND,
            format!("this host has no app {app:?}; `buddo-agent status` lists what it has"),
        )),
    }
}

/// What a host that has not joined says of itself.
pub const NOT_JOINED: &str = "not joined: run buddo-agent join --coordinator URL --token TOKEN \
                              --advertise HOST:PORT with a token of `buddo-coordinator host add`";

async fn document(State(sources): State<Sources>) -> Result<Response, Response> {
    let document = sources.document.borrow().clone();
    let document =
        document.ok_or_else(|| problem(StatusCode::NOT_FOUND, "no document was accepted yet"))?;
    // Environment and credentials are sealed in it, so it can be shown as it is.
    let body = serde_json::json!({
        "digest": document.digest(),
        "document": document.whole(),
    });
    Ok(Json(body).into_response())
}

async fn routes(State(sources): State<Sources>) -> Json<RouteFiles> {
    Json((sources.routes)())
}

async fn metrics(State(sources): State<Sources>) -> Response {
    crate::host::metrics::answer(&sources.scrape).await
}

async fn events(State(sources): State<Sources>) -> Response {
    Json(sources.status.recent()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::Store;

    fn sources(dir: &Path, joined: bool) -> Sources {
        let snapshot = crate::testing::snapshot(joined);
        let snapshot = watch::channel(Some(Arc::new(snapshot))).1;
        let document = watch::channel(None).1;
        let store = Store::open(&dir.join("agent.db"), 0).unwrap();
        Sources {
            snapshot: snapshot.clone(),
            document: document.clone(),
            routes: Arc::new(RouteFiles::new),
            status: Status::new(store.clone()),
            scrape: crate::host::metrics::tests::scrape(store, snapshot, document),
        }
    }

    #[tokio::test]
    async fn the_socket_answers_only_its_owner_and_explains_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/agent.sock");
        let listener = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, sources(dir.path(), false), stop.clone()));
        let status = crate::local::client::get(&path, "/v1/status").await.unwrap();
        let snapshot: HostSnapshot = serde_json::from_slice(&status).unwrap();
        assert!(!snapshot.joined);
        let refused = crate::local::client::get(&path, "/v1/explain?app=blog").await.unwrap_err();
        assert!(refused.to_string().starts_with("not joined: run buddo-agent join"), "{refused}");
        let missing = crate::local::client::get(&path, "/v1/document").await.unwrap_err();
        assert_eq!(missing.to_string(), "no document was accepted yet");
        assert!(bind(&path).is_err(), "a living agent's socket is not taken");
        stop.cancel();
        serving.await.unwrap().unwrap();
        // A socket left by a dead agent is replaced.
        drop(bind(&path).unwrap());
        let nobody = crate::local::client::get(&path, "/v1/status").await.unwrap_err();
        assert!(matches!(nobody, crate::local::client::AskError::Connect { .. }));
    }

    #[tokio::test]
    async fn an_unknown_app_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let stop = CancellationToken::new();
        let listener = bind(&path).unwrap();
        let serving = tokio::spawn(serve(listener, sources(dir.path(), true), stop.clone()));
        let refused = crate::local::client::get(&path, "/v1/explain?app=blog").await.unwrap_err();
        assert!(refused.to_string().contains("no app \"blog\""));
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
