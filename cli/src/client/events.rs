//! `GET /api/deploy/apps/{id}/events`: the status of one deployment, as it changes.

use std::collections::VecDeque;
use std::time::Duration;

use buddo_shared::api::deploy::StatusAnswer;
use buddo_shared::model::id::DeploymentId;
use reqwest::header::{ACCEPT, HeaderName};
use reqwest::{Method, Response};

use super::sse::Parser;
use super::{Api, ClientError};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The API sends a comment about every 15 s: three missed ones mean a dead connection.
const SILENCE: Duration = Duration::from_secs(50);

/// An open stream of status events.
pub(crate) struct Events {
    response: Response,
    parser: Parser,
    ready: VecDeque<String>,
}

impl Events {
    /// Where to resume after the stream broke, and how long to wait first.
    pub(crate) fn resume(&self) -> (Option<String>, Option<Duration>) {
        (self.parser.last_id().map(str::to_owned), self.parser.retry())
    }
}

impl Api {
    /// Opens the stream, after the event `last` if there was one.
    pub(crate) async fn events(
        &self,
        id: DeploymentId,
        last: Option<&str>,
    ) -> Result<Events, ClientError> {
        let token = self.access_token().await?;
        let path = format!("/api/deploy/apps/{id}/events");
        let mut request = self.transport.request(Method::GET, &path);
        request = request.bearer_auth(token.expose()).header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header(LAST_EVENT_ID, last);
        }
        let response = self.transport.open(request).await?;
        Ok(Events { response, parser: Parser::default(), ready: VecDeque::new() })
    }

    /// The next status; `None` at the end of the stream.
    pub(crate) async fn next_event(
        &self,
        events: &mut Events,
    ) -> Result<Option<StatusAnswer>, ClientError> {
        let url = || self.url().as_str().to_owned();
        loop {
            if let Some(data) = events.ready.pop_front() {
                return serde_json::from_str(&data)
                    .map(Some)
                    .map_err(|source| ClientError::Decode { url: url(), source });
            }
            let chunk = tokio::time::timeout(SILENCE, events.response.chunk()).await;
            let chunk = chunk.map_err(|_| self.transport.late(SILENCE))?;
            let Some(chunk) = chunk.map_err(|error| self.transport.classify(error))? else {
                return Ok(None);
            };
            let parsed = events.parser.push(&chunk);
            let parsed = parsed
                .map_err(|_| ClientError::TooLong { url: url(), limit: super::sse::MAX_EVENT })?;
            events.ready.extend(parsed.into_iter().map(|event| event.data));
        }
    }
}
