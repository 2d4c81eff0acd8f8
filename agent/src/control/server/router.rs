//! Which endpoint answers a request: a table of methods and path patterns.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use buddo_shared::api::problem::{MEDIA_TYPE, Problem};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;

use super::answer::{Answer, Refused, json, problem};

/// A request, and what its path says.
#[derive(Debug)]
pub struct Call {
    pub(super) head: Parts,
    pub(super) body: Incoming,
    parameters: Vec<(&'static str, String)>,
}

impl Call {
    /// What stands in the path for `{name}` of the pattern, as it was sent.
    pub fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn into_body(self) -> Incoming {
        self.body
    }

    /// A value of the query, as it was sent.
    pub fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.head.uri.query().unwrap_or_default().split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Refused>> + Send>>;

/// Answers requests of one route. Implemented by functions from a [`Call`] to an answer.
pub trait Endpoint: Send + Sync + 'static {
    fn answer(&self, call: Call) -> Answering;
}

impl<F, A> Endpoint for F
where
    F: Fn(Call) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Answer, Refused>> + Send + 'static,
{
    fn answer(&self, call: Call) -> Answering {
        Box::pin(self(call))
    }
}

struct Route {
    method: Method,
    pattern: &'static str,
    endpoint: Box<dyn Endpoint>,
}

/// All routes. The table is short: it is searched from top to bottom.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// The same with one more route. A part of the pattern in braces stands for any one part of a
    /// path that is not empty.
    #[must_use]
    pub fn route(mut self, method: Method, pattern: &'static str, endpoint: impl Endpoint) -> Self {
        self.routes.push(Route { method, pattern, endpoint: Box::new(endpoint) });
        self
    }

    pub(super) async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        let answered = match self.find(request.method(), request.uri().path()) {
            Ok((endpoint, parameters)) => {
                let (head, body) = request.into_parts();
                endpoint.answer(Call { head, body, parameters }).await
            }
            Err(Unrouted::Path) => Err(problem(
                StatusCode::NOT_FOUND,
                "no_such_endpoint",
                "Not found",
                "there is no such endpoint on a host",
            )),
            Err(Unrouted::Method(allow)) => {
                let detail = format!("this endpoint takes {allow}");
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let refused = problem(status, "method_not_allowed", "Method not allowed", detail);
                let mut answer = refuse(peer, &refused);
                if let Ok(allow) = HeaderValue::from_str(&allow) {
                    answer.headers_mut().insert(header::ALLOW, allow);
                }
                return answer;
            }
        };
        answered.unwrap_or_else(|problem| refuse(peer, &problem))
    }

    fn find(&self, method: &Method, path: &str) -> Result<(&dyn Endpoint, Parameters), Unrouted> {
        let mut allow = Vec::new();
        for route in &self.routes {
            let Some(parameters) = matched(route.pattern, path) else { continue };
            if route.method == *method {
                return Ok((&*route.endpoint, parameters));
            }
            allow.push(route.method.as_str());
        }
        if allow.is_empty() { Err(Unrouted::Path) } else { Err(Unrouted::Method(allow.join(", "))) }
    }
}

type Parameters = Vec<(&'static str, String)>;

#[derive(Debug, PartialEq, Eq)]
enum Unrouted {
    Path,
    /// The path has endpoints, for these methods.
    Method(String),
}

fn refuse(peer: SocketAddr, problem: &Problem) -> Answer {
    tracing::warn!(%peer, code = problem.code, reason = problem.detail, "refused");
    let status = StatusCode::from_u16(problem.status);
    json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), MEDIA_TYPE, problem)
}

fn matched(pattern: &'static str, path: &str) -> Option<Parameters> {
    let (mut parts, mut parameters) = (path.split('/'), Vec::new());
    for expected in pattern.split('/') {
        let part = parts.next()?;
        match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if !part.is_empty() => parameters.push((name, part.to_owned())),
            Some(_) => return None,
            None if part != expected => return None,
            None => {}
        }
    }
    parts.next().is_none().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let never = |_: Call| std::future::pending();
        Router::default()
            .route(Method::PUT, "/v1/desired-state", never)
            .route(Method::GET, "/v1/apps/{id}/log", never)
            .route(Method::POST, "/v1/apps/{id}/log", never)
    }

    fn found(method: Method, path: &str) -> Result<Parameters, Unrouted> {
        router().find(&method, path).map(|(_, parameters)| parameters)
    }

    #[test]
    fn a_path_without_endpoint_and_a_method_without_one_are_told_apart() {
        assert_eq!(found(Method::PUT, "/v1/desired-state"), Ok(vec![]));
        assert_eq!(found(Method::GET, "/v1/apps/7/log"), Ok(vec![("id", "7".to_owned())]));
        let other = found(Method::GET, "/v1/desired-state");
        assert_eq!(other, Err(Unrouted::Method("PUT".to_owned())));
        let other = found(Method::DELETE, "/v1/apps/7/log");
        assert_eq!(other, Err(Unrouted::Method("GET, POST".to_owned())));
        for path in [
            "/",
            "/v1",
            "/v1/desired-state/",
            "/v1/desired-state/x",
            "/v1/apps//log",
            "/v1/apps/7",
            "/v1/apps/7/8/log",
            "//v1/desired-state",
            "/V1/desired-state",
        ] {
            assert_eq!(found(Method::PUT, path), Err(Unrouted::Path), "{path}");
        }
    }
}
