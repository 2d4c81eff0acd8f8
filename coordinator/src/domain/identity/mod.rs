//! Who a user is and what an app may do for them: validated values, pure.

mod email;
mod hashed_token;
mod key_scope;
mod label;
pub mod pkce;
mod redirect;
mod role;
mod scope;
mod stored_hash;
mod username;
mod word_set;

pub use email::{Email, EmailError};
pub use hashed_token::HashedToken;
pub use key_scope::{KeyScope, KeyScopes, UnknownKeyScope};
pub use label::{Label, LabelError, Slug, SlugError};
pub use redirect::{RedirectUri, RedirectUriError};
pub use role::{OrgRole, TeamRole, UnknownRole, effective};
pub use scope::{Scope, Scopes, UnknownScope};
pub use stored_hash::StoredHash;
pub use username::{Username, UsernameError};
