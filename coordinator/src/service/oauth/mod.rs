//! OAuth 2: apps, authorization codes with PKCE, tokens.
//!
//! ```text
//! browser ─ authorize ─► request checked ─► login ─► consent ─► Grant + Code ─► redirect
//! app ─ token ─► client authenticated ─► Code | refresh token | login JWT ─► tokens of the Grant
//! deploy endpoint ─► access(token) ─► account, scopes
//! ```
//!
//! A grant is what an account can take back: its codes and tokens end with it.

mod apps;
mod authorize;
mod client;
mod error;
mod grants;
mod inspect;

pub use apps::{AppError, app, create_app, my_apps};
pub use authorize::{Answer, Checked, RequestError, approve, check_request, deny};
pub use client::{Credentials, authenticate};
pub use error::{ErrorCode, TokenError};
pub use grants::{exchange, redeem, refresh};
pub use inspect::{Access, Introspection, access, introspect, revoke};
