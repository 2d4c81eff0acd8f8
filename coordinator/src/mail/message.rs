//! What mails say.

use buddo_shared::secret::Secret;
use lettre::Message;
use lettre::message::{Mailbox, MultiPart};
use minijinja::{Environment, context};

use super::MailError;
use crate::store::contract::Account;

/// The mail that confirms an address.
pub(super) fn verification(
    from: &Mailbox,
    account: &Account,
    public_url: &str,
    token: &Secret,
) -> Result<Message, MailError> {
    let to = account.email.as_str().parse().map_err(MailError::Address)?;
    let link = format!("{public_url}/verify-email?token={}", token.expose());
    let values = context! { username => account.username.as_str(), link };
    let mut templates = Environment::new();
    let render = |templates: &mut Environment<'static>, name, source| {
        templates.add_template(name, source)?;
        templates.get_template(name)?.render(&values)
    };
    let text = render(&mut templates, "verify.txt", include_str!("verify.txt"));
    let html = render(&mut templates, "verify.html", include_str!("verify.html"));
    let (text, html) = (text.map_err(MailError::Template)?, html.map_err(MailError::Template)?);
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject("Confirm your email address for Buddo")
        .multipart(MultiPart::alternative_plain_html(text, html))
        .map_err(MailError::Message)
}
