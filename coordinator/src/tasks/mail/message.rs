//! A mail's text and HTML.

use jiff::Timestamp;
use lettre::Message;
use lettre::message::{Mailbox, MultiPart};
use minijinja::{Environment, context};

use super::MailError;
use super::texts::{Button, Invited, MailText, text_of};
use crate::domain::identity::Email;
use crate::store::contract::MailKind;

/// A mail before rendering.
pub(super) struct Letter {
    pub(super) to: Email,
    /// Who it greets; `None` if the account is gone.
    pub(super) username: Option<String>,
    pub(super) kind: MailKind,
    pub(super) button: Option<Button>,
    pub(super) invited: Invited,
    /// When the event it reports happened.
    pub(super) at: Timestamp,
}

/// Renders a mail. `site`: the coordinator's public URL.
pub(super) fn render(from: &Mailbox, letter: &Letter, site: &str) -> Result<Message, MailError> {
    let to = letter.to.as_str().parse().map_err(MailError::Address)?;
    let MailText { subject, before, after } = text_of(letter.kind, letter.at, &letter.invited);
    let link = letter.button.as_ref().map(|button| {
        let Button { path, token, .. } = button;
        format!("{site}{path}?token={}", token.expose())
    });
    let values = context! {
        subject, before, after, link, site,
        label => letter.button.as_ref().map(|button| button.label),
        username => letter.username.as_deref(),
    };
    let mut templates = Environment::new();
    let mut fill = |name, source| {
        templates.add_template(name, source)?;
        templates.get_template(name)?.render(&values)
    };
    // Values are escaped only in the template whose name ends in .html.
    let text = fill("letter.txt", include_str!("letter.txt")).map_err(MailError::Template)?;
    let html = fill("letter.html", include_str!("letter.html")).map_err(MailError::Template)?;
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(subject)
        .multipart(MultiPart::alternative_plain_html(text, html))
        .map_err(MailError::Message)
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::secret::Secret;

    use super::*;
    use crate::tasks::mail::texts::link_of;

    fn letter(kind: MailKind) -> String {
        let button = link_of(kind).map(|(path, label)| Button {
            path,
            label,
            token: Secret::new("buddo_xx_TOKEN"),
        });
        let letter = Letter {
            to: Email::parse("you@example.com").unwrap(),
            username: Some("myoperator".to_owned()),
            kind,
            button,
            invited: Invited::default(),
            at: "2026-05-21T10:00:00Z".parse().unwrap(),
        };
        let from = "Buddo <no-reply@buddo.xyz>".parse().unwrap();
        let mail = render(&from, &letter, "https://api.test").unwrap().formatted();
        // Soft line breaks of quoted-printable (RFC 2045, 6.7).
        let text = String::from_utf8(mail).unwrap().replace("=\r\n", "").replace("=3D", "=");
        // HTML may escape these.
        text.replace("&#x27;", "'").replace("&#x2f;", "/")
    }

    #[test]
    fn every_mail_has_text_and_html_that_say_the_same() {
        for kind in MailKind::ALL {
            let mail = letter(kind);
            assert!(mail.contains("To: you@example.com"), "{mail}");
            assert!(mail.contains("multipart/alternative"), "{mail}");
            assert_eq!(mail.matches("Hello myoperator,").count(), 2, "{mail}");
            for paragraph in
                &text_of(kind, "2026-05-21T10:00:00Z".parse().unwrap(), &Invited::default()).after
            {
                assert_eq!(mail.matches(paragraph.as_str()).count(), 2, "{paragraph}: {mail}");
            }
            let links = mail.matches("?token=buddo_xx_TOKEN").count();
            assert_eq!(links, if link_of(kind).is_some() { 2 } else { 0 }, "{mail}");
        }
    }

    #[test]
    fn the_plain_text_part_matches_the_snapshot() {
        let mail = letter(MailKind::ResetPassword).replace("\r\n", "\n");
        let (_, text) = mail.split_once("\n\nHello").unwrap();
        let (text, _) = text.split_once("\n--").unwrap();
        insta::assert_snapshot!(format!("Hello{text}"), @r"
        Hello myoperator,

        somebody, hopefully you, forgot the password of your account:

        https://api.test/reset-password?token=buddo_xx_TOKEN

        The link works once, for one hour. With the new password every session and token of your account ends.

        If this was not you, ignore this mail: nothing has changed.
        ");
    }
}
