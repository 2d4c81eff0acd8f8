//! What this server can do (RFC 8414).

use axum::Json;
use axum::extract::State;
use buddo_shared::api::oauth::{DEVICE_CODE, TOKEN_EXCHANGE};
use serde_json::{Value, json};

use crate::domain::identity::Scopes;
use crate::state::AppState;

/// What this server can do (RFC 8414)
///
/// Where OAuth clients find the endpoints, grants, scopes and ways to authenticate that this server
/// has. The issuer in it is the `iss` of answers to browsers.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    operation_id = "oauth_metadata",
    tag = "oauth",
    responses((
        status = 200,
        body = std::collections::BTreeMap<String, Value>,
        description = "The members of RFC 8414, 2"
    ))
)]
pub(super) async fn show(State(state): State<AppState>) -> Json<Value> {
    let issuer = state.config.api.public_url();
    let methods = ["client_secret_basic", "client_secret_post"];
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/api/oauth/authorize"),
        "token_endpoint": format!("{issuer}/api/oauth/token"),
        "revocation_endpoint": format!("{issuer}/api/oauth/revoke"),
        "device_authorization_endpoint": format!("{issuer}/api/oauth/device_authorization"),
        "introspection_endpoint": format!("{issuer}/api/oauth/introspect"),
        "scopes_supported": Scopes::of_apps().words(),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_CODE, TOKEN_EXCHANGE],
        "token_endpoint_auth_methods_supported": [methods[0], methods[1], "none"],
        "revocation_endpoint_auth_methods_supported": [methods[0], methods[1], "none"],
        "introspection_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
}
