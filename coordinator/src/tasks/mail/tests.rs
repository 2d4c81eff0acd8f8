//! Mail to a real SMTP server: aiosmtpd, from the distribution's packages.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::{Mailer, pass};
use crate::config::{Mail, Tls, Transport};
use crate::process::secret_file;
use crate::store::StoreError;
use crate::testing::World;

const PASSWORD: &str = "canary-smtp-password";
const PATIENCE: Duration = Duration::from_secs(20);

/// The server, which stops when this is dropped.
struct Server {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    folder: TempDir,
}

impl Server {
    async fn start(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tasks/mail/smtp_server.py");
        // The system's Python is the one that has the package.
        let mut child = Command::new("/usr/bin/python3")
            .args([script.as_path(), Path::new(mode), &certificate, &key, Path::new(PASSWORD)])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let port = port.expect("python3-aiosmtpd is there: scripts/install-packages --tests");
        Self { _child: child, lines, port: port.parse().unwrap(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A coordinator that sends mail through this server.
    fn world(&self, change: impl FnOnce(&mut Mail)) -> World {
        let password_file = self.path("smtp.password");
        secret_file::read_or_create::<secret_file::SecretFileError>(&password_file, || {
            Ok(Secret::new(PASSWORD))
        })
        .unwrap();
        World::with(|config| {
            config.mail = Mail {
                transport: Transport::Smtp,
                host: Some("localhost".to_owned()),
                port: Some(self.port),
                tls: Tls::Starttls,
                tls_ca: Some(self.path("cert.pem")),
                username: Some("buddo".to_owned()),
                password_file: Some(password_file),
                ..Mail::default()
            };
            change(&mut config.mail);
        })
    }

    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a mail in time");
        serde_json::from_str(&line.unwrap().unwrap()).unwrap()
    }
}

async fn send(world: &World) {
    let config = &world.state.config;
    let mailer = Mailer::new(&config.mail, &config.state_dir).unwrap();
    pass(&world.state, &mailer).await.unwrap();
}

async fn waits(world: &World) -> bool {
    let next: Result<_, StoreError> = world.state.store.read(|tables| tables.next_mail_due()).await;
    next.unwrap().is_some()
}

#[rstest]
#[case::rfc3207("starttls", Tls::Starttls)]
#[case::rfc8314_3_3("tls", Tls::Tls)]
#[tokio::test]
async fn a_mail_reaches_a_real_server_over_tls(#[case] mode: &str, #[case] tls: Tls) {
    let mut server = Server::start(mode).await;
    let world = server.world(|mail| mail.tls = tls);
    world.register("one").await;
    send(&world).await;
    let mail = server.next().await;
    assert!(mail["tls"].as_str().unwrap_or_default().starts_with("TLSv1."), "{mail}");
    assert_eq!(mail["user"], "buddo");
    assert_eq!(
        (&mail["from"], &mail["to"]),
        (&json!("no-reply@buddo.xyz"), &json!(["one@example.com"]))
    );
    let text = mail["data"].as_str().unwrap().replace("=\r\n", "").replace("=3D", "=");
    let text = text.replace("&#x2f;", "/");
    assert!(text.contains("Subject: Confirm your email address for Buddo"), "{text}");
    assert!(text.contains("Content-Type: text/plain") && text.contains("Content-Type: text/html"));
    assert!(text.contains("<a href=\"https://api.test/verify-email?token=buddo_ev_"), "{text}");
    assert!(!waits(&world).await);
    // The link in the plain part is the one that works.
    let (_, token) = text.split_once("https://api.test/verify-email?token=").unwrap();
    let token: String =
        token.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let verified = world.post("/api/auth/verify-email", "", json!({ "token": token })).await;
    assert_eq!(verified.status, 200, "{verified:?}");
}

#[rstest]
#[case::rfc3207_4_1_a_server_without_starttls("plain", true)]
#[case::rfc3207_4_1_an_authority_that_is_not_trusted("starttls", false)]
#[tokio::test]
async fn without_trusted_tls_the_mail_is_not_sent_and_waits(
    #[case] mode: &str,
    #[case] trusted: bool,
) {
    let mut server = Server::start(mode).await;
    let world = server.world(|mail| {
        // Without a password, only the TLS rule can keep the mail back.
        (mail.username, mail.password_file) = (None, None);
        if !trusted {
            mail.tls_ca = None;
        }
    });
    world.register("one").await;
    send(&world).await;
    assert!(waits(&world).await);
    // By the time the server has taken this mail, it has reported all earlier ones.
    let plain = server.world(|mail| {
        mail.tls = if mode == "plain" { Tls::None } else { Tls::Starttls };
        if mode == "plain" {
            (mail.tls_ca, mail.username, mail.password_file) = (None, None, None);
        }
    });
    plain.register("two").await;
    send(&plain).await;
    assert_eq!(server.next().await["to"], json!(["two@example.com"]));
}

#[tokio::test]
async fn a_wrong_server_password_does_not_discard_mail() {
    let server = Server::start("starttls").await;
    let wrong = server.path("wrong.password");
    let file = wrong.clone();
    secret_file::read_or_create::<secret_file::SecretFileError>(&wrong, || {
        Ok(Secret::new("canary-wrong"))
    })
    .unwrap();
    let world = server.world(|mail| mail.password_file = Some(file));
    world.register("one").await;
    send(&world).await;
    assert!(waits(&world).await, "an administrator mends it, and the mail goes out");
}

#[tokio::test]
async fn a_clock_jump_does_not_expire_mail() {
    const DAYS: SignedDuration = SignedDuration::from_hours(72);
    let world = World::with(|config| {
        config.mail = Mail {
            transport: Transport::Smtp,
            // Nobody listens there.
            host: Some("127.0.0.1".to_owned()),
            port: Some(1),
            tls: Tls::None,
            ..Mail::default()
        };
    });
    world.register("one").await;
    world.clock.jump(DAYS);
    send(&world).await;
    assert!(waits(&world).await);
    world.clock.jump(-DAYS);
    // Time that really passes does count.
    world.clock.advance(DAYS + SignedDuration::from_hours(1));
    send(&world).await;
    assert!(!waits(&world).await);
}
