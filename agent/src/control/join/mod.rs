//! Joining: how a host gets its identity, once.
//!
//! ```text
//! token (secret, CA fingerprint) ─► TLS to a server under exactly that CA ─► POST /v1/join
//!      keys made here ─► CSR, sealing key ─────────────────────────────────────┘  │
//!      identity folder, all files 0600 ◄── checked answer ◄───────────────────────┘
//! ```
//!
//! Private keys never leave the host. The secret is sent only to the holder of the CA that the
//! token names: a man in the middle learns nothing and cannot enrol a host.

mod call;
mod identity;
mod pin;

use std::path::PathBuf;

use buddo_shared::host_wire::join::{JoinRequest, JoinToken, Joined};
use buddo_shared::host_wire::sealed::{OpeningKey, SealError};
use http::Uri;
use rcgen::{CertificateParams, KeyPair};

pub use self::call::CallError;
pub(crate) use self::call::post;
pub use self::identity::{Identity, IdentityError};
pub(crate) use self::identity::{RENEWAL, check_certificate, keep_certificate, remember};

/// An administrator's options for a join.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// `https://HOST:PORT` of the coordinator's listener for hosts.
    pub coordinator: String,
    /// What `buddo-coordinator host add` printed.
    pub token: JoinToken,
    /// `HOST:PORT` where the coordinator reaches this agent.
    pub advertise: String,
    /// Where the identity is kept.
    pub state_dir: PathBuf,
    /// Replace an existing identity.
    pub force: bool,
}

/// Why a host did not join. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// An identity exists already.
    #[error(
        "this host has joined already as {0}; \
         to give that identity up and join again, add --force"
    )]
    Joined(buddo_shared::model::id::HostId),
    /// The coordinator's address is malformed.
    #[error("{0:?} is not a coordinator address; write https://HOST:PORT")]
    Address(String),
    /// The address to reach the agent at is malformed.
    #[error(
        "{0:?} is not a valid address for this host; write HOST:PORT as the coordinator reaches it"
    )]
    Advertise(String),
    /// The keys could not be made.
    #[error("cannot make this host's key and certificate request")]
    Key(#[source] rcgen::Error),
    /// The sealing key could not be made.
    #[error("cannot make this host's sealing key")]
    Sealing(#[source] SealError),
    /// The exchange with the coordinator failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The identity cannot be read, checked or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Makes keys, joins, and stores the result in the state folder.
pub async fn join(options: &JoinOptions) -> Result<Identity, JoinError> {
    let address = authority(&options.coordinator)?;
    if !is_host_port(&options.advertise) {
        return Err(JoinError::Advertise(options.advertise.clone()));
    }
    if !options.force
        && let Some(present) = Identity::load(&options.state_dir)?
    {
        return Err(JoinError::Joined(present.host_id));
    }
    identity::prepare(&options.state_dir)?;
    let key = KeyPair::generate().map_err(JoinError::Key)?;
    // Only the key of the request counts; the CA decides on names.
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|csr| csr.pem())
        .map_err(JoinError::Key)?;
    let (opening_key, sealing_key) = OpeningKey::generate().map_err(JoinError::Sealing)?;
    let request = JoinRequest {
        token: options.token.secret.clone(),
        csr,
        sealing_key,
        address: options.advertise.clone(),
    };
    let joined = exchange(&address, &options.token, &request).await?;
    let key = buddo_shared::model::secret::Secret::new(key.serialize_pem());
    let own = identity::Own { key: &key, opening_key: &opening_key, coordinator: &address };
    Ok(identity::keep(&options.state_dir, &options.token, &joined, &own)?)
}

/// Host and port of the coordinator's URL.
fn authority(text: &str) -> Result<String, JoinError> {
    let error = || JoinError::Address(text.to_owned());
    let uri: Uri = text.trim().parse().map_err(|_| error())?;
    let plain = uri.path().trim_end_matches('/').is_empty() && uri.query().is_none();
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(authority)) if plain && !authority.as_str().contains('@') => {
            Ok(match authority.port_u16() {
                Some(_) => authority.to_string(),
                None => format!("{authority}:443"),
            })
        }
        _ => Err(error()),
    }
}

fn is_host_port(text: &str) -> bool {
    text.parse::<http::uri::Authority>().is_ok_and(|authority| {
        !authority.host().is_empty()
            && !text.contains('@')
            && authority.port_u16().is_some_and(|port| port != 0)
    })
}

async fn exchange(
    address: &str,
    token: &JoinToken,
    request: &JoinRequest,
) -> Result<Joined, CallError> {
    let tls = pin::client_config(token.ca_fingerprint)?;
    let body = serde_json::to_vec(request).map_err(|error| CallError::Exchange(Box::new(error)))?;
    post(address, tls, "/v1/join", "application/json", |_| Ok(body)).await
}

#[cfg(test)]
mod tests;
