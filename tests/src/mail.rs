//! Reading the mail that the coordinator's file transport wrote.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// The token of the newest verification mail to `address` in `folder`.
pub fn verification_token(folder: &Path, address: &str) -> anyhow::Result<String> {
    let mut newest = None;
    for entry in fs::read_dir(folder).with_context(|| format!("no mail in {}", folder.display()))? {
        let entry = entry?;
        if entry.path().extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        let text = unfolded(&fs::read_to_string(entry.path())?);
        let to = text.lines().find(|line| line.to_ascii_lowercase().starts_with("to:"));
        if to.is_some_and(|to| to.contains(address)) {
            newest = newest.max(Some((entry.metadata()?.modified()?, text)));
        }
    }
    let (_, text) = newest.with_context(|| format!("no mail to {address} yet"))?;
    let (_, rest) = text.split_once("token=").context("the mail holds no token")?;
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.~".contains(c);
    let token: String = rest.chars().take_while(|&c| part(c)).collect();
    ensure!(!token.is_empty(), "the mail's token is empty");
    Ok(token)
}

/// Quoted-printable (RFC 2045, 6.7), as far as mail in plain English needs it.
fn unfolded(text: &str) -> String {
    text.replace("\r\n", "\n").replace("=\n", "").replace("=3D", "=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_token_folded_over_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mail = "To: <you@example.com>\r\nSubject: x\r\n\r\n\
                    https://localhost/verify-email?token=3Dabc=\r\ndef_-1 and so on\r\n";
        fs::write(folder.path().join("1.eml"), mail).unwrap();
        let token = verification_token(folder.path(), "you@example.com").unwrap();
        assert_eq!(token, "abcdef_-1");
        assert!(verification_token(folder.path(), "else@example.com").is_err());
    }
}
