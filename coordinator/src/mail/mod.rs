//! Mail, sent off the request path.
//!
//! ```text
//! register ─ same transaction ─► mail_outbox ─ wake ─► run: take the due one, make its token,
//!                                     ▲               render, send ─► done: off the queue
//!                                     └── failed: later, with back-off ◄┘
//! ```
//!
//! The queue says what is to be sent, never its text: the text holds a token, which is made when
//! it is sent and stored as a hash.

mod message;
mod outbox;
mod transport;

pub use outbox::run;
pub use transport::{MailError, Mailer};
