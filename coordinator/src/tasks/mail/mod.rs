//! Mail, sent outside of requests.
//!
//! ```text
//! a use case ─ same transaction ─► mail_outbox ─ wake ─► run: take the due one, make its token,
//! forgot password ─► reset_requests ──┘ ▲                render, send ─► done: off the queue
//!                                       └── failed: later, with back-off ◄┘
//! ```
//!
//! The queue says what to send, never its text: the text contains a token, which is made when the
//! mail is sent and stored only as a hash.

mod message;
mod outbox;
mod texts;
mod transport;

#[cfg(test)]
mod tests;

pub use outbox::run;
#[cfg(test)]
pub(crate) use outbox::{pass, sweep};
pub use transport::{MailError, Mailer};
