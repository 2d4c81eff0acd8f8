//! `/api/deploy/*`, one function per endpoint.

use buddo_shared::api::deploy::{
    AuditLog, CreateDeployment, Deployment, DeploymentEnvelope, DeploymentList, Destroyed,
    RevisionList, Rollback, StatusAnswer, Tier,
};
use buddo_shared::model::id::DeploymentId;
use reqwest::Method;
use serde::Serialize;

use super::pages::As;
use super::transport::{Answer, Retry};
use super::{Api, ClientError};

const APPS: &str = "/api/deploy/apps";

/// Makes a request safe to send twice: the API carries it out once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdempotencyKey(pub(crate) u128);

impl Api {
    /// The tiers that deployments can be made on.
    pub(crate) async fn tiers(&self) -> Result<Vec<Tier>, ClientError> {
        self.get("/api/deploy/tiers").await?.json()
    }

    pub(crate) async fn create(
        &self,
        request: &CreateDeployment,
        team: Option<&str>,
        key: IdempotencyKey,
    ) -> Result<Deployment, ClientError> {
        let path = team.map_or_else(|| APPS.to_owned(), |team| format!("{APPS}?team_id={team}"));
        deployment(&self.post_once(&path, request, key).await?)
    }

    /// All deployments of a team, or of all that the account is in, page after page.
    pub(crate) async fn deployments(
        &self,
        team: Option<&str>,
    ) -> Result<Vec<Deployment>, ClientError> {
        let team = team.map(|team| format!("&team_id={team}")).unwrap_or_default();
        let query = format!("?limit=100{team}");
        let entries = |DeploymentList { deployments }| deployments;
        self.all(As::KeyOrLogin, APPS, &query, entries).await
    }

    pub(crate) async fn deployment(&self, id: DeploymentId) -> Result<Deployment, ClientError> {
        deployment(&self.get(&format!("{APPS}/{id}")).await?)
    }

    pub(crate) async fn status(&self, id: DeploymentId) -> Result<StatusAnswer, ClientError> {
        self.get(&format!("{APPS}/{id}/status")).await?.json()
    }

    pub(crate) async fn logs(&self, id: DeploymentId) -> Result<AuditLog, ClientError> {
        self.get(&format!("{APPS}/{id}/logs")).await?.json()
    }

    pub(crate) async fn stop(&self, id: DeploymentId) -> Result<Deployment, ClientError> {
        deployment(&self.act(Method::POST, &format!("{APPS}/{id}/stop")).await?)
    }

    /// Restarts it with the newest image.
    pub(crate) async fn restart(&self, id: DeploymentId) -> Result<Deployment, ClientError> {
        deployment(&self.act(Method::POST, &format!("{APPS}/{id}/restart")).await?)
    }

    /// Its revisions, newest first.
    pub(crate) async fn revisions(&self, id: DeploymentId) -> Result<RevisionList, ClientError> {
        self.get(&format!("{APPS}/{id}/revisions")).await?.json()
    }

    /// Rolls back to an earlier revision.
    pub(crate) async fn rollback(
        &self,
        id: DeploymentId,
        request: Rollback,
        key: IdempotencyKey,
    ) -> Result<Deployment, ClientError> {
        let path = format!("{APPS}/{id}/rollback");
        deployment(&self.post_once(&path, &request, key).await?)
    }

    /// Removes it permanently.
    pub(crate) async fn destroy(&self, id: DeploymentId) -> Result<Destroyed, ClientError> {
        self.act(Method::DELETE, &format!("{APPS}/{id}")).await?.json()
    }

    async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.authorised(Retry::Harmless, || self.transport.request(Method::GET, path)).await
    }

    async fn post_once(
        &self,
        path: &str,
        request: &impl Serialize,
        key: IdempotencyKey,
    ) -> Result<Answer, ClientError> {
        let key = format!("{:032x}", key.0);
        let make = || {
            let post = self.transport.request(Method::POST, path);
            post.header("Idempotency-Key", &key).json(request)
        };
        self.authorised(Retry::Harmless, make).await
    }

    async fn act(&self, method: Method, path: &str) -> Result<Answer, ClientError> {
        let make = || self.transport.request(method.clone(), path);
        self.authorised(Retry::BeforeSending, make).await
    }
}

fn deployment(answer: &Answer) -> Result<Deployment, ClientError> {
    answer.json().map(|DeploymentEnvelope { deployment }| deployment)
}
