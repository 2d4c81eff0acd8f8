//! The API as calls: one function per endpoint, typed answers, typed errors.
//!
//! ```text
//! command ─► deploy ─► auth (token, refresh on 401) ─► transport (deadline, retry, bounds) ─► API
//!              │                                          ▲
//!              └─► events ─► sse (bytes → events) ────────┘
//! ```

mod auth;
mod browser;
mod deploy;
mod error;
mod events;
mod login;
mod pages;
mod sse;
mod teams;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use browser::Polled;
pub(crate) use deploy::IdempotencyKey;
pub(crate) use error::ClientError;
pub(crate) use events::Events;
pub(crate) use login::Me;

use buddo_shared::model::secret::Secret;
use transport::Transport;

use crate::clock::Clock;
use crate::config::{ApiUrl, Config};
use crate::session::SessionStore;

/// The API as used by one account.
pub(crate) struct Api {
    transport: Transport,
    sessions: SessionStore,
    ca_file: Option<PathBuf>,
    key: Option<Secret>,
    clock: Arc<dyn Clock>,
}

impl Api {
    /// A client for the API that `config` names. Nothing is sent yet.
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        Ok(Self {
            transport: Transport::new(config.api, config.ca.as_deref())?,
            sessions: SessionStore::new(config.credentials),
            ca_file: config.ca_file,
            key: config.api_key,
            clock,
        })
    }

    /// Where the API is.
    pub(crate) fn url(&self) -> &ApiUrl {
        self.transport.url()
    }
}
