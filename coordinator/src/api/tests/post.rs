//! The mails of a test, sent on demand.

use serde_json::{Value, json};

use crate::tasks::mail::{self, Mailer};
use crate::testing::{Answer, PASSWORD, World};

/// A mail as it was written, its lines unfolded (RFC 2045, 6.7).
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) to: String,
    pub(super) subject: String,
    pub(super) text: String,
}

impl Mail {
    /// The token of its link.
    pub(super) fn token(&self) -> String {
        let (_, rest) = self.text.split_once("?token=").unwrap_or_else(|| panic!("{self:?}"));
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
    }
}

/// Sends what is due; returns the mails, by recipient and subject.
pub(super) async fn deliver(world: &World) -> Vec<Mail> {
    let config = &world.state.config;
    let mailer = Mailer::new(&config.mail, &config.state_dir).unwrap();
    mail::pass(&world.state, &mailer).await.unwrap();
    let mut mails = Vec::new();
    for file in std::fs::read_dir(config.state_dir.join("mail")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = text.replace("=\r\n", "").replace("=3D", "=");
        let header = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{text}")).trim().to_owned()
        };
        mails.push(Mail { to: header("To:"), subject: header("Subject:"), text: text.clone() });
    }
    mails.sort_by(|a, b| (&a.to, &a.subject).cmp(&(&b.to, &b.subject)));
    mails
}

/// The only mail to `name` among `mails` whose subject holds `words`.
pub(super) fn only<'a>(mails: &'a [Mail], name: &str, words: &str) -> &'a Mail {
    let to = format!("{name}@example.com");
    let found: Vec<&Mail> =
        mails.iter().filter(|mail| mail.to == to && mail.subject.contains(words)).collect();
    assert_eq!(found.len(), 1, "{words} to {to}: {mails:?}");
    found[0]
}

/// A login; returns the whole answer.
pub(super) async fn log_in(world: &World, email: &str, password: &str, code: &str) -> Answer {
    let mut body = json!({ "email": email, "password": password });
    if !code.is_empty() {
        body["totp_code"] = Value::from(code);
    }
    world.post("/api/auth/login", "", body).await
}

/// Whether a login's JWT is still accepted for the account.
pub(super) async fn is_open(world: &World, jwt: &str) -> bool {
    world.get("/api/auth/me", jwt).await.status == 200
}

/// Whether an access token is still accepted by the deploy endpoints.
pub(super) async fn deploys(world: &World, access: &str) -> bool {
    world.get("/api/deploy/apps", access).await.status == 200
}

/// The entries of the account's log, newest first.
pub(super) async fn activity(world: &World, jwt: &str) -> Vec<String> {
    let list = world.get("/api/auth/activity", jwt).await.json();
    let entries = list["activity"].as_array().unwrap().iter();
    entries.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

/// The proof that an owner repeats.
pub(super) fn owner(code: &str) -> Value {
    if code.is_empty() {
        json!({ "password": PASSWORD })
    } else {
        json!({ "password": PASSWORD, "totp_code": code })
    }
}
