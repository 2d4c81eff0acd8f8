//! Mail, sent off the request path.
//!
//! ```text
//! a use case ─ same transaction ─► mail_outbox ─ wake ─► run: take the due one, make its token,
//! forgot password ─► reset_requests ──┘ ▲                render, send ─► done: off the queue
//!                                       └── failed: later, with back-off ◄┘
//! ```
//!
//! The queue says what is to be sent, never its text: the text holds a token, which is made when
//! it is sent and stored as a hash.

mod message;
mod outbox;
mod transport;
mod words;

#[cfg(test)]
mod tests;

pub use outbox::run;
#[cfg(test)]
pub(crate) use outbox::{pass, sweep};
pub use transport::{MailError, Mailer};
