//! Ids in paths. A malformed id gets the same answer as an unknown one.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use buddo_shared::model::id::{AccountId, ApiKeyId, InvitationId, OrgId, TeamId};
use http::request::Parts;

use crate::api::problem::{self, ApiError};

/// Extractors for the ids in a path, each by its name in the route.
macro_rules! ids_in_paths {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $id:ty = $param:literal),* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(in crate::api) struct $name {
            $(pub(in crate::api) $field: $id),*
        }

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                let params = RawPathParams::from_request_parts(parts, state).await;
                let params = params.map_err(|_| absent())?;
                Ok(Self { $($field: id(&params, $param)?),* })
            }
        }
    )*};
}

ids_in_paths! {
    /// `{org_id}`.
    InOrg { org: OrgId = "org_id" }
    /// `{org_id}`, `{account_id}`.
    OrgMember { org: OrgId = "org_id", account: AccountId = "account_id" }
    /// `{org_id}`, `{invitation_id}`.
    OrgInvitation { org: OrgId = "org_id", invitation: InvitationId = "invitation_id" }
    /// `{team_id}`.
    InTeam { team: TeamId = "team_id" }
    /// `{team_id}`, `{account_id}`.
    TeamMember { team: TeamId = "team_id", account: AccountId = "account_id" }
    /// `{team_id}`, `{key_id}`.
    TeamKey { team: TeamId = "team_id", key: ApiKeyId = "key_id" }
}

fn id<T: FromStr>(params: &RawPathParams, name: &str) -> Result<T, ApiError> {
    let found = params.iter().find(|(known, _)| *known == name);
    found.and_then(|(_, text)| text.parse().ok()).ok_or_else(absent)
}

fn absent() -> ApiError {
    ApiError::new(problem::NOT_FOUND, "there is nothing with this id; check the path")
}
