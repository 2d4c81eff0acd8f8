//! Mail transports: SMTP, or files for development.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls as SmtpTls, TlsParameters};
use lettre::transport::smtp::response::{Category, Code};
use lettre::{
    AsyncFileTransport, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
};

use crate::config::{Mail, Tls, Transport};
use crate::process::secret_file::{self, SecretFileError};

/// How long one command to an SMTP server may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// How long one mail may take in all.
const DEADLINE: Duration = Duration::from_mins(2);

/// A mail cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The sender or the recipient is not a valid mail address.
    #[error("a mail address is not valid")]
    Address(#[source] lettre::address::AddressError),
    /// A built-in text is broken.
    #[error("cannot render a mail")]
    Template(#[source] minijinja::Error),
    /// The parts do not form a valid mail.
    #[error("cannot build a mail")]
    Message(#[source] lettre::error::Error),
    /// The password file cannot be used.
    #[error("cannot use the password of the mail server")]
    Password(#[from] SecretFileError),
    /// The directory for mail files cannot be created.
    #[error("cannot create the directory for mails {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: SecretFileError,
    },
    /// The CA certificates cannot be read.
    #[error("cannot read the mail server's CA file {}; check [mail] tls_ca", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The SMTP server or the connection to it failed.
    #[error("the mail server did not take a mail")]
    Smtp(#[source] lettre::transport::smtp::Error),
    /// The directory of mail files cannot be written to.
    #[error("cannot write a mail file")]
    File(#[source] lettre::transport::file::Error),
    /// It took too long.
    #[error("the mail server took more than {} seconds", DEADLINE.as_secs())]
    Deadline,
}

impl MailError {
    /// Whether a retry is useless: the server will not take this mail.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Address(_) | Self::Template(_) | Self::Message(_) => true,
            // 53x is about the coordinator's own login (RFC 4954, 6), which an administrator can
            // fix.
            Self::Smtp(error) => {
                let login = |code: Code| code.category == Category::Unspecified3;
                error.is_permanent() && !error.status().is_some_and(login)
            }
            Self::Password(_)
            | Self::Directory { .. }
            | Self::Authority { .. }
            | Self::File(_)
            | Self::Deadline => false,
        }
    }
}

pub struct Mailer {
    way: Way,
    pub(super) from: Mailbox,
}

enum Way {
    File(AsyncFileTransport<Tokio1Executor>),
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Mailer {
    /// Prepares the configured transport. Does not connect yet.
    pub fn new(config: &Mail, state_dir: &Path) -> Result<Self, MailError> {
        let from = config.from.parse().map_err(MailError::Address)?;
        let way = match config.transport {
            Transport::File => {
                let path = config.directory.clone().unwrap_or_else(|| state_dir.join("mail"));
                secret_file::make_directory(&path)
                    .map_err(|source| MailError::Directory { path: path.clone(), source })?;
                tracing::warn!(directory = %path.display(), "mail is written to files, not sent");
                Way::File(AsyncFileTransport::new(path))
            }
            Transport::Smtp => Way::Smtp(Box::new(smtp(config)?)),
        };
        Ok(Self { way, from })
    }

    /// Hands over one mail.
    pub async fn send(&self, message: Message) -> Result<(), MailError> {
        let send = async {
            match &self.way {
                Way::File(way) => way.send(message).await.map(drop).map_err(MailError::File),
                Way::Smtp(way) => way.send(message).await.map(drop).map_err(MailError::Smtp),
            }
        };
        tokio::time::timeout(DEADLINE, send).await.map_err(|_| MailError::Deadline)?
    }
}

fn smtp(config: &Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
    let host = config.host.clone().unwrap_or_default();
    let parameters = || {
        let mut builder = TlsParameters::builder(host.clone());
        if let Some(path) = &config.tls_ca {
            let failed = |source| MailError::Authority { path: path.clone(), source };
            let pem = std::fs::read(path).map_err(failed)?;
            let certificate = Certificate::from_pem(&pem).map_err(MailError::Smtp)?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(MailError::Smtp)
    };
    let (tls, port) = match config.tls {
        Tls::Starttls => (SmtpTls::Required(parameters()?), 587),
        Tls::Tls => (SmtpTls::Wrapper(parameters()?), 465),
        Tls::None => (SmtpTls::None, 25),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
        .port(config.port.unwrap_or(port))
        .tls(tls)
        .timeout(Some(COMMAND_DEADLINE));
    if let (Some(username), Some(file)) = (&config.username, &config.password_file) {
        let password = secret_file::read(file)?;
        let password = password.expose().trim_end_matches(['\r', '\n']).to_owned();
        builder = builder.credentials(Credentials::new(username.clone(), password));
    }
    Ok(builder.build())
}
