//! A client of the published API, for tests: every call of the two Buddo pages, and the status
//! of every refusal.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use buddo_shared::api::auth::{LoggedIn, Registered};
use buddo_shared::api::deploy::{
    AuditLog, CreateDeployment, Deployment, DeploymentEnvelope, DeploymentList, Destroyed,
    RevisionList, Rollback, Status, StatusAnswer, Tier,
};
use buddo_shared::api::oauth::{DEPLOY_MANAGE, TOKEN_EXCHANGE, TOKEN_TYPE_JWT, Tokens};
use buddo_shared::model::id::CLI_CLIENT_ID;
use buddo_shared::model::secret::Secret;
use reqwest::{Certificate, Client, ClientBuilder, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::poll;

/// The API at one address, as one caller.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: Option<Secret>,
}

/// Any answer: status and JSON.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Body; null if it is not JSON.
    pub json: Value,
}

impl Reply {
    /// The body, if the status is `wanted`.
    pub fn expect<T: DeserializeOwned>(self, wanted: u16) -> anyhow::Result<T> {
        if self.status != wanted {
            bail!("status {} instead of {wanted}: {}", self.status, self.json);
        }
        serde_json::from_value(self.json).context("the answer has another form")
    }
}

impl Api {
    /// The API at `base`, trusting the certificates in the PEM file `ca`.
    pub fn new(base: &str, ca: &Path) -> anyhow::Result<Self> {
        let client = client(ca)?.build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), token: None })
    }

    /// The same API with a bearer token.
    #[must_use]
    pub fn with_token(&self, token: Secret) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The bearer token that it calls with.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// The same API, called from another address of this machine.
    pub fn from_address(&self, ca: &Path, address: Ipv4Addr) -> anyhow::Result<Self> {
        let client = client(ca)?.local_address(IpAddr::from(address)).build()?;
        Ok(Self { client, ..self.clone() })
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Reply> {
        self.call_with(method, path, body, &[]).await
    }

    /// Any call, with more headers.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Reply> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("cannot call {path}"))?;
        let status = response.status().as_u16();
        let json = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        Ok(Reply { status, json })
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Reply> {
        self.call(Method::POST, path, Some(&serde_json::to_value(body)?)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, None).await?.expect(200)
    }

    /// `POST /api/auth/register`.
    pub async fn register(
        &self,
        email: &str,
        name: &str,
        password: &str,
    ) -> anyhow::Result<Registered> {
        let body = json!({ "email": email, "username": name, "password": password });
        self.post("/api/auth/register", &body).await?.expect(201)
    }

    /// `POST /api/auth/verify-email`.
    pub async fn verify_email(&self, token: &str) -> anyhow::Result<()> {
        let reply = self.post("/api/auth/verify-email", &json!({ "token": token })).await?;
        reply.expect::<Value>(200).map(drop)
    }

    /// `POST /api/auth/login`, then the token exchange that the CLI makes: the API as that
    /// account, for deployments.
    pub async fn log_in(&self, email: &str, password: &str) -> anyhow::Result<Self> {
        let body = json!({ "email": email, "password": password });
        let login: LoggedIn = self.post("/api/auth/login", &body).await?.expect(200)?;
        let exchange = json!({
            "grant_type": TOKEN_EXCHANGE,
            "client_id": CLI_CLIENT_ID,
            "scope": DEPLOY_MANAGE,
            "subject_token": login.token.expose(),
            "subject_token_type": TOKEN_TYPE_JWT,
        });
        let tokens: Tokens = self.post("/api/oauth/token", &exchange).await?.expect(200)?;
        Ok(self.with_token(tokens.access_token))
    }

    /// `GET /api/deploy/tiers`.
    pub async fn tiers(&self) -> anyhow::Result<Vec<Tier>> {
        self.get("/api/deploy/tiers").await
    }

    /// `POST /api/deploy/apps`.
    pub async fn create(&self, request: &CreateDeployment) -> anyhow::Result<Deployment> {
        let reply = self.post("/api/deploy/apps", request).await?;
        Ok(reply.expect::<DeploymentEnvelope>(201)?.deployment)
    }

    /// `GET /api/deploy/apps`.
    pub async fn list(&self) -> anyhow::Result<Vec<Deployment>> {
        Ok(self.get::<DeploymentList>("/api/deploy/apps").await?.deployments)
    }

    /// `GET /api/deploy/apps/{id}`.
    pub async fn deployment(&self, id: &str) -> anyhow::Result<Deployment> {
        let path = format!("/api/deploy/apps/{id}");
        Ok(self.get::<DeploymentEnvelope>(&path).await?.deployment)
    }

    /// `GET /api/deploy/apps/{id}/status`.
    pub async fn status(&self, id: &str) -> anyhow::Result<StatusAnswer> {
        self.get(&format!("/api/deploy/apps/{id}/status")).await
    }

    /// `GET /api/deploy/apps/{id}/logs`.
    pub async fn logs(&self, id: &str) -> anyhow::Result<AuditLog> {
        self.get(&format!("/api/deploy/apps/{id}/logs")).await
    }

    /// `POST /api/deploy/apps/{id}/{verb}`: `restart` or `stop`.
    pub async fn act(&self, id: &str, verb: &str) -> anyhow::Result<Deployment> {
        let path = format!("/api/deploy/apps/{id}/{verb}");
        let reply = self.call(Method::POST, &path, None).await?;
        Ok(reply.expect::<DeploymentEnvelope>(200)?.deployment)
    }

    /// `GET /api/deploy/apps/{id}/revisions`.
    pub async fn revisions(&self, id: &str) -> anyhow::Result<RevisionList> {
        self.get(&format!("/api/deploy/apps/{id}/revisions")).await
    }

    /// `POST /api/deploy/apps/{id}/rollback`.
    pub async fn rollback(&self, id: &str, to: Rollback) -> anyhow::Result<Deployment> {
        let reply = self.post(&format!("/api/deploy/apps/{id}/rollback"), &to).await?;
        Ok(reply.expect::<DeploymentEnvelope>(200)?.deployment)
    }

    /// `DELETE /api/deploy/apps/{id}`.
    pub async fn destroy(&self, id: &str) -> anyhow::Result<Destroyed> {
        let path = format!("/api/deploy/apps/{id}");
        self.call(Method::DELETE, &path, None).await?.expect(200)
    }

    /// Waits until the deployment has the status `wanted` at revision `revision` or later.
    pub async fn reaches(
        &self,
        id: &str,
        wanted: Status,
        revision: u32,
    ) -> anyhow::Result<Deployment> {
        let what = format!("deployment {id} to be {wanted} at revision {revision}");
        poll::until(&what, Duration::from_secs(90), async || {
            let deployment = self.deployment(id).await?;
            if deployment.status == wanted && deployment.revision >= revision {
                return Ok(deployment);
            }
            bail!("{deployment:?}")
        })
        .await
    }

    /// Waits until a deploy that cannot succeed has ended, and returns how.
    pub async fn fails(&self, id: &str) -> anyhow::Result<Deployment> {
        let what = format!("deployment {id} to have failed");
        poll::until(&what, Duration::from_mins(3), async || {
            let deployment = self.deployment(id).await?;
            let ended = matches!(deployment.status, Status::Running | Status::Stopped);
            if ended && deployment.last_error.is_some() {
                return Ok(deployment);
            }
            bail!("{deployment:?}")
        })
        .await
    }
}

fn client(ca: &Path) -> anyhow::Result<ClientBuilder> {
    // A second call finds it installed, which is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    Ok(Client::builder()
        .tls_certs_only(Certificate::from_pem_bundle(&pem)?)
        .timeout(Duration::from_secs(30)))
}

/// A request for `image` at `port`, on the starter tier.
pub fn request(subdomain: &str, image: &str, port: u16) -> CreateDeployment {
    CreateDeployment {
        subdomain: Some(subdomain.to_owned()),
        image: Some(image.to_owned()),
        tier: Some("buddo-starter".to_owned()),
        port: Some(port.into()),
        ..CreateDeployment::default()
    }
}
