//! Client authentication (RFC 6749, 2.3).

use buddo_shared::model::secret::Secret;

use super::TokenError;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::Client;

/// The credentials of a calling app.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The app's public name.
    pub client_id: String,
    /// Its secret, unless it is a public client.
    pub secret: Option<Secret>,
}

const WRONG: TokenError = TokenError::client("client_id or client_secret is wrong; check both");

/// The client that `credentials` prove: a confidential one has to send its secret, a public one has
/// none.
pub async fn authenticate(
    state: &AppState,
    credentials: Credentials,
) -> Result<Client, TokenError> {
    let Credentials { client_id, secret } = credentials;
    let found: Result<_, StoreError> =
        state.store.read(move |tables| tables.client(&client_id)).await;
    let client = found?.ok_or(WRONG)?;
    match (&client.secret, secret) {
        (None, None) => Ok(client),
        (Some(stored), Some(offered)) => {
            let offered =
                PlainToken::parse(PlainTokenKind::ClientSecret, offered.expose()).ok_or(WRONG)?;
            let offered = offered.hashed();
            let old = client.old_secret.filter(|(_, until)| state.clock.now() < *until);
            if offered == *stored || old.is_some_and(|(old, _)| offered == old) {
                Ok(client)
            } else {
                Err(WRONG)
            }
        }
        (Some(_), None) => Err(TokenError::client(
            "this client has a secret and has to send it: by HTTP Basic, or as client_secret",
        )),
        (None, Some(_)) => {
            Err(TokenError::client("this client is public and has no secret; leave it out"))
        }
    }
}
