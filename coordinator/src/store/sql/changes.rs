//! Changes to an account.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use serde_json::Value;

use super::column::{get, hash, json, millis, parsed, text, time, to_json};
use super::query::expired;
use super::{Row, Tx, audit_chain, params};
use crate::domain::identity::{Email, HashedToken, StoredHash};
use crate::store::contract::{
    AccountAct, AccountActRow, Changes, MailKind, MailedLink, Purpose, Result,
};

impl Changes for Tx<'_> {
    fn request_reset(&mut self, email_key: &str, at: Timestamp) -> Result<()> {
        let sql = "INSERT INTO reset_requests (email_key, requested_at) VALUES (?1, ?2)
                   ON CONFLICT (email_key) DO UPDATE SET requested_at = excluded.requested_at";
        self.run("record a reset request", sql, params![email_key, millis(at)]).map(drop)
    }

    fn reset_requests(&self) -> Result<Vec<String>> {
        let sql = "SELECT email_key FROM reset_requests ORDER BY requested_at LIMIT 100";
        self.all("list requests", sql, [], |row| get(row, "email_key"))
    }

    fn drop_reset_request(&mut self, email_key: &str) -> Result<()> {
        let sql = "DELETE FROM reset_requests WHERE email_key = ?1";
        self.run("delete a reset request", sql, [email_key]).map(drop)
    }

    fn insert_link(&mut self, link: &MailedLink) -> Result<()> {
        let sql = "INSERT INTO mailed_links
                       (hash, account_id, purpose, email, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let params = params![
            link.hash.as_bytes(),
            text(&link.account),
            word(link.purpose),
            link.email.as_str(),
            millis(link.created_at),
            millis(link.expires_at),
        ];
        self.run("store a link", sql, params).map(drop)
    }

    fn link(&self, hash: &HashedToken, purpose: Purpose) -> Result<Option<MailedLink>> {
        let sql = "SELECT * FROM mailed_links WHERE hash = ?1 AND purpose = ?2";
        let params = params![hash.as_bytes(), word(purpose)];
        self.first("look up a link", sql, params, |row| read_link(row, purpose))
    }

    fn links_since(&self, account: AccountId, purpose: Purpose, since: Timestamp) -> Result<u32> {
        let sql = "SELECT count(*) AS made FROM mailed_links
                   WHERE account_id = ?1 AND purpose = ?2 AND created_at > ?3";
        let params = params![text(&account), word(purpose), millis(since)];
        let made = self.first("count links", sql, params, |row| get(row, "made"))?;
        Ok(made.unwrap_or_default())
    }

    fn drop_links(&mut self, account: AccountId, purpose: Option<Purpose>) -> Result<()> {
        let sql = "DELETE FROM mailed_links
                   WHERE account_id = ?1 AND (?2 IS NULL OR purpose = ?2)";
        self.run("void links", sql, params![text(&account), purpose.map(word)]).map(drop)
    }

    fn purge_links(&mut self, now: Timestamp, most: u32) -> Result<usize> {
        let sql = expired!("mailed_links", "hash");
        self.run("delete old links", sql, params![millis(now), most])
    }

    fn set_password(&mut self, account: AccountId, password: &StoredHash) -> Result<()> {
        let sql = "UPDATE accounts SET password = ?2 WHERE id = ?1";
        self.run("change a password", sql, params![text(&account), password.as_str()]).map(drop)
    }

    fn set_email(&mut self, account: AccountId, email: &Email, at: Timestamp) -> Result<()> {
        let sql = "UPDATE accounts SET email = ?2, email_key = ?3, email_verified_at = ?4
                   WHERE id = ?1";
        let params = params![text(&account), email.as_str(), email.key(), millis(at)];
        self.run("change a mail address", sql, params).map(drop)
    }

    fn referrals_of(&self, account: AccountId) -> Result<i64> {
        let sql = "SELECT count(*) AS invited FROM accounts WHERE referred_by = ?1";
        let invited =
            self.first("count referrals", sql, [text(&account)], |row| get(row, "invited"))?;
        Ok(invited.unwrap_or_default())
    }

    fn erase_account(&mut self, account: AccountId, at: Timestamp) -> Result<()> {
        let account = text(&account);
        for sql in ERASE {
            self.run("erase what an account left", sql, [&account])?;
        }
        let sql = "DELETE FROM mail_outbox WHERE account_id = ?1 AND kind <> ?2";
        let last = MailKind::AccountDeleted.as_str();
        self.run("remove mails from the queue", sql, params![account, last])?;
        let sql = "UPDATE accounts
                   SET email = '', email_key = id, username = '', username_key = id, password = '',
                       referral_code = id, points = 0, is_admin = 0, email_verified_at = NULL,
                       totp_secret = NULL, totp_enabled_at = NULL, totp_last_step = 0,
                       suspended_at = NULL, suspended_for = NULL,
                       deleted_at = ?2
                   WHERE id = ?1";
        self.run("erase an account", sql, params![account, millis(at)]).map(drop)
    }

    fn insert_account_act(
        &mut self,
        account: AccountId,
        act: AccountAct,
        at: Timestamp,
        details: Option<&Value>,
    ) -> Result<()> {
        let sql = "INSERT INTO account_audit (account_id, action, at, details)
                   VALUES (?1, ?2, ?3, ?4) RETURNING seq";
        let details = details.map(to_json).transpose()?;
        let params = params![text(&account), act.as_str(), millis(at), details];
        let seq = self.only("add to an account's log", sql, params, |row| get(row, "seq"))?;
        self.link(&audit_chain::ACCOUNT, seq, at)
    }

    fn account_acts(&self, account: AccountId, limit: u32) -> Result<Vec<AccountActRow>> {
        let sql = "SELECT * FROM account_audit WHERE account_id = ?1 ORDER BY seq DESC LIMIT ?2";
        self.all("read an account's log", sql, params![text(&account), limit], |row| {
            Ok(AccountActRow {
                action: get(row, "action")?,
                at: time(row, "at")?,
                details: match get::<Option<String>>(row, "details")? {
                    Some(_) => Some(json(row, "details")?),
                    None => None,
                },
            })
        })
    }
}

/// What is deleted with an account, ordered so that no foreign key forbids it. Destroyed
/// deployments keep their ids, for the audit log.
const ERASE: [&str; 20] = [
    "DELETE FROM email_tokens WHERE account_id = ?1",
    "DELETE FROM mailed_links WHERE account_id = ?1",
    "DELETE FROM recovery_codes WHERE account_id = ?1",
    "DELETE FROM logins WHERE account_id = ?1",
    "DELETE FROM api_keys WHERE account_id = ?1",
    "DELETE FROM team_members WHERE account_id = ?1",
    "DELETE FROM org_members WHERE account_id = ?1",
    "DELETE FROM tier_grants WHERE account_id = ?1",
    "DELETE FROM invitations WHERE invited_by = ?1 OR email_key =
         (SELECT email_key FROM accounts WHERE id = ?1)",
    "UPDATE teams SET name = '', slug = id WHERE deleted_at IS NOT NULL AND org_id IN
         (SELECT id FROM orgs WHERE payer_id = ?1 AND deleted_at IS NOT NULL)",
    "UPDATE orgs SET name = '', slug = id WHERE payer_id = ?1 AND deleted_at IS NOT NULL",
    "DELETE FROM browser_sessions WHERE account_id = ?1",
    "DELETE FROM idempotency WHERE account_id = ?1",
    // Including the grants that others gave its apps.
    "DELETE FROM oauth_grants WHERE account_id = ?1 OR client_id IN
         (SELECT client_id FROM oauth_clients WHERE owner_id = ?1)",
    "DELETE FROM oauth_clients WHERE owner_id = ?1",
    // The names of services are its words too. One stays, so that the revision can be read.
    "DELETE FROM services WHERE public = 0 AND deployment_id IN
         (SELECT id FROM deployments WHERE account_id = ?1)",
    "UPDATE services SET name = 'app', image = 'docker.io/library/erased:latest', digest = NULL,
         env = NULL
     WHERE deployment_id IN (SELECT id FROM deployments WHERE account_id = ?1)",
    "UPDATE revisions SET domains = '[]', failure_code = NULL, failure_cause = NULL,
         failure_fix = NULL
     WHERE deployment_id IN (SELECT id FROM deployments WHERE account_id = ?1)",
    "UPDATE deployments SET subdomain = 'erased', container_name = 'erased', custom_domain = NULL,
         failure_code = NULL, failure_cause = NULL, failure_fix = NULL, trouble_code = NULL,
         trouble_cause = NULL, trouble_fix = NULL, held_code = NULL, held_cause = NULL,
         held_fix = NULL
     WHERE account_id = ?1 AND status = 'destroyed'",
    "DELETE FROM reset_requests WHERE email_key =
         (SELECT email_key FROM accounts WHERE id = ?1)",
];

fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::ResetPassword => "reset_password",
        Purpose::ChangeEmail => "change_email",
    }
}

fn read_link(row: &Row<'_>, purpose: Purpose) -> Result<MailedLink> {
    Ok(MailedLink {
        hash: hash(row, "hash")?,
        account: parsed(row, "account_id")?,
        purpose,
        email: parsed(row, "email")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}
