//! Who somebody is and what an app may do for them: validated values, pure.

mod email;
pub mod pkce;
mod redirect;
mod scope;
mod username;

pub use email::{Email, EmailError};
pub use redirect::{RedirectUri, RedirectUriError};
pub use scope::{Scope, Scopes, UnknownScope};
pub use username::{Username, UsernameError};
