//! How mail is sent.

use std::path::PathBuf;

use lettre::message::Mailbox;
use serde::Deserialize;

use super::ConfigError;

/// `[mail]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// Which transport to use.
    pub transport: Transport,
    /// Sender, such as `Buddo <no-reply@buddo.xyz>`.
    pub from: String,
    /// For `file`: the directory of the `.eml` files; `mail` in the state directory if absent.
    pub directory: Option<PathBuf>,
    /// For `smtp`: the server.
    pub host: Option<String>,
    /// For `smtp`: its port; if absent 587, 465 or 25, depending on `tls`.
    pub port: Option<u16>,
    /// For `smtp`: how the connection is protected.
    pub tls: Tls,
    /// For `smtp`: certificates of a private CA, PEM, trusted in addition to the system's.
    pub tls_ca: Option<PathBuf>,
    /// For `smtp`: the account.
    pub username: Option<String>,
    /// For `smtp`: a file, 0600, that holds the account's password.
    pub password_file: Option<PathBuf>,
}

/// Where mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Into files, for development.
    File,
    /// To an SMTP server.
    Smtp,
}

/// How an SMTP connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Starts in plain text, then STARTTLS; without it nothing is sent (RFC 3207).
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// None: for a server on this machine.
    None,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            transport: Transport::File,
            from: "Buddo <no-reply@buddo.xyz>".to_owned(),
            directory: None,
            host: None,
            port: None,
            tls: Tls::Starttls,
            tls_ca: None,
            username: None,
            password_file: None,
        }
    }
}

impl Mail {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError::Invalid(format!("[mail] {text}")));
        if self.from.parse::<Mailbox>().is_err() {
            return refuse(format!("from is {:?}; write it as Name <name@example.com>", self.from));
        }
        if self.transport == Transport::Smtp && self.host.is_none() {
            return refuse("host is missing; transport = \"smtp\" needs a server".to_owned());
        }
        if self.username.is_some() != self.password_file.is_some() {
            return refuse("username and password_file must be set together".to_owned());
        }
        if self.username.is_some() && self.tls == Tls::None {
            return refuse("a password is not sent without TLS; set tls = \"starttls\"".to_owned());
        }
        if self.tls_ca.is_some() && self.tls == Tls::None {
            return refuse("tls_ca has no effect without TLS; set tls = \"starttls\"".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let mail: Mail = toml::from_str(text).map_err(|error| error.to_string())?;
        mail.check().map_err(|error| error.to_string())
    }

    #[test]
    fn contradictory_settings_are_refused_by_name() {
        check("").unwrap();
        check("transport = \"smtp\"\nhost = \"localhost\"\ntls = \"none\"").unwrap();
        assert!(check("transport = \"smtp\"").unwrap_err().contains("host is missing"));
        assert!(check("from = \"nobody\"").unwrap_err().contains("name@example.com"));
        assert!(check("username = \"a\"").unwrap_err().contains("password_file"));
        let plain = "tls = \"none\"\nusername = \"a\"\npassword_file = \"/p\"";
        assert!(check(plain).unwrap_err().contains("without TLS"));
        assert!(check("tls = \"none\"\ntls_ca = \"/ca.pem\"").unwrap_err().contains("tls_ca"));
    }
}
