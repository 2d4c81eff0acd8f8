//! OAuth 2: clients, authorization codes with PKCE, tokens.
//!
//! ```text
//! browser ─ authorize ─► request checked ─► login ─► consent ─► Grant + Code ─► redirect
//! client ─ token ─► client authenticated ─► Code | refresh token | login JWT | device code ─► tokens of the Grant
//! device ─ device_authorization ─► two codes ─► login ─► decision ─► Grant
//! deploy endpoint ─► access(token) ─► account, scopes
//! ```
//!
//! A grant is the unit that an account can revoke: its codes and tokens end with it.

mod approval;
mod authorize;
mod client;
mod connections;
mod consent;
mod device;
mod error;
mod grants;
mod inspect;
mod registration;

pub use approval::{ApprovalError, acts, approve_client, clients, decide, suspend_client};
pub use authorize::{Answer, Checked, RequestError, approve, check_request, deny};
pub use client::{Credentials, authenticate};
pub use connections::{connected_apps, disconnect, external_user};
pub use device::{
    DEVICE_CODE_LIFETIME, Decided, DeviceRequest, DeviceStarted, decide_device, device_request,
    redeem_device, start_device,
};
pub use error::{ErrorCode, TokenError};
pub use grants::{Subject, Tokens, exchange, redeem, refresh};
pub use inspect::{Introspection, introspect, revoke};
pub use registration::{
    ClientError, ClientWithSecret, Flows, NewClient, client, clients_of, create_client,
    edit_client, redirect_uris, remove_client, rotate_secret,
};
