//! OAuth 2: apps, authorization codes with PKCE, tokens.
//!
//! ```text
//! browser ─ authorize ─► request checked ─► login ─► consent ─► Grant + Code ─► redirect
//! app ─ token ─► client authenticated ─► Code | refresh token | login JWT | device code ─► tokens of the Grant
//! device ─ device_authorization ─► two codes ─► login ─► decision ─► Grant
//! deploy endpoint ─► access(token) ─► account, scopes
//! ```
//!
//! A grant is the unit that an account can revoke: its codes and tokens end with it.

mod approval;
mod apps;
mod authorize;
mod client;
mod connections;
mod consent;
mod device;
mod error;
mod grants;
mod inspect;

pub use approval::{ApprovalError, acts, approve_app, apps, decide, suspend_app};
pub use apps::{
    AppError, AppWithSecret, Flows, NewApp, app, create_app, edit_app, my_apps, redirect_uris,
    remove_app, rotate_secret,
};
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
