//! `/api/orgs`, `/api/teams` and `/api/invitations`, one function per endpoint. They need a login,
//! even if an API key is given for the deployments.

use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{
    AcceptInvitation, ApiKey, CreateKey, CreateOrg, CreateTeam, Invitation, Invite, KeyCreated,
    Member, Org, OrgActivity, SetRole, Team,
};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pages::As;
use super::transport::Retry;
use super::{Api, ClientError};

impl Api {
    /// The organisations that the account is in.
    pub(crate) async fn orgs(&self) -> Result<Vec<Org>, ClientError> {
        self.list("/api/orgs").await
    }

    pub(crate) async fn create_org(&self, request: &CreateOrg) -> Result<Org, ClientError> {
        self.send(Method::POST, "/api/orgs", request).await
    }

    pub(crate) async fn delete_org(&self, org: &str) -> Result<Message, ClientError> {
        self.act_on(Method::DELETE, &format!("/api/orgs/{org}")).await
    }

    /// Becomes the payer of its deployments.
    pub(crate) async fn take_over(&self, org: &str) -> Result<Org, ClientError> {
        self.act_on(Method::POST, &format!("/api/orgs/{org}/take-over")).await
    }

    /// Who is in it.
    pub(crate) async fn org_members(&self, org: &str) -> Result<Vec<Member>, ClientError> {
        self.list(&format!("/api/orgs/{org}/members")).await
    }

    /// Gives a member another role.
    pub(crate) async fn set_org_role(
        &self,
        org: &str,
        account: &str,
        role: &SetRole,
    ) -> Result<Message, ClientError> {
        self.send(Method::PUT, &format!("/api/orgs/{org}/members/{account}"), role).await
    }

    /// Removes a member, or leaves.
    pub(crate) async fn remove_org_member(
        &self,
        org: &str,
        account: &str,
    ) -> Result<Message, ClientError> {
        self.act_on(Method::DELETE, &format!("/api/orgs/{org}/members/{account}")).await
    }

    /// Its activity log.
    pub(crate) async fn org_activity(&self, org: &str) -> Result<Vec<OrgActivity>, ClientError> {
        self.list(&format!("/api/orgs/{org}/activity")).await
    }

    pub(crate) async fn invite(
        &self,
        org: &str,
        request: &Invite,
    ) -> Result<Invitation, ClientError> {
        self.send(Method::POST, &format!("/api/orgs/{org}/invitations"), request).await
    }

    pub(crate) async fn invitations(&self, org: &str) -> Result<Vec<Invitation>, ClientError> {
        self.list(&format!("/api/orgs/{org}/invitations")).await
    }

    /// Withdraws an invitation.
    pub(crate) async fn uninvite(&self, org: &str, id: &str) -> Result<Message, ClientError> {
        self.act_on(Method::DELETE, &format!("/api/orgs/{org}/invitations/{id}")).await
    }

    pub(crate) async fn accept(&self, request: &AcceptInvitation) -> Result<Org, ClientError> {
        self.send(Method::POST, "/api/invitations/accept", request).await
    }

    /// The teams that the account may view, its own first.
    pub(crate) async fn teams(&self) -> Result<Vec<Team>, ClientError> {
        self.list("/api/teams").await
    }

    pub(crate) async fn create_team(
        &self,
        org: &str,
        request: &CreateTeam,
    ) -> Result<Team, ClientError> {
        self.send(Method::POST, &format!("/api/orgs/{org}/teams"), request).await
    }

    pub(crate) async fn delete_team(&self, team: &str) -> Result<Message, ClientError> {
        self.act_on(Method::DELETE, &format!("/api/teams/{team}")).await
    }

    /// Who is in it.
    pub(crate) async fn team_members(&self, team: &str) -> Result<Vec<Member>, ClientError> {
        self.list(&format!("/api/teams/{team}/members")).await
    }

    /// Adds somebody to it.
    pub(crate) async fn set_team_role(
        &self,
        team: &str,
        account: &str,
        role: &SetRole,
    ) -> Result<Message, ClientError> {
        self.send(Method::PUT, &format!("/api/teams/{team}/members/{account}"), role).await
    }

    /// Removes somebody from it.
    pub(crate) async fn remove_team_member(
        &self,
        team: &str,
        account: &str,
    ) -> Result<Message, ClientError> {
        self.act_on(Method::DELETE, &format!("/api/teams/{team}/members/{account}")).await
    }

    pub(crate) async fn api_keys(&self, team: &str) -> Result<Vec<ApiKey>, ClientError> {
        self.list(&format!("/api/teams/{team}/keys")).await
    }

    pub(crate) async fn create_key(
        &self,
        team: &str,
        request: &CreateKey,
    ) -> Result<KeyCreated, ClientError> {
        self.send(Method::POST, &format!("/api/teams/{team}/keys"), request).await
    }

    pub(crate) async fn revoke_key(&self, team: &str, key: &str) -> Result<Message, ClientError> {
        self.act_on(Method::DELETE, &format!("/api/teams/{team}/keys/{key}")).await
    }

    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        self.all(As::Login, path, "", |entries: Vec<T>| entries).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let make = || self.transport.request(method.clone(), path).json(request);
        self.logged_in(Retry::BeforeSending, make).await?.json()
    }

    async fn act_on<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let make = || self.transport.request(method.clone(), path);
        self.logged_in(Retry::BeforeSending, make).await?.json()
    }
}
