//! The queue of mails.

use buddo_shared::model::id::{AccountId, InvitationId};
use jiff::Timestamp;

use super::column::{get, millis, parsed, text, time};
use super::{Tx, params};
use crate::domain::identity::Email;
use crate::store::contract::{MailKind, MailQueue, QueuedMail, Result, StoreError};

impl MailQueue for Tx<'_> {
    fn queue_mail(
        &mut self,
        account: AccountId,
        kind: MailKind,
        recipient: Option<&Email>,
        at: Timestamp,
    ) -> Result<()> {
        let recipient = recipient.map_or("", Email::as_str);
        self.queue(account, kind, recipient, "", at)
    }

    fn queue_invitation(
        &mut self,
        inviter: AccountId,
        to: &Email,
        invitation: InvitationId,
        at: Timestamp,
    ) -> Result<()> {
        self.queue(inviter, MailKind::Invitation, to.as_str(), &text(&invitation), at)
    }

    fn due_mail(&self, now: Timestamp) -> Result<Option<QueuedMail>> {
        let sql = "SELECT * FROM mail_outbox WHERE due_at <= ?1 ORDER BY due_at, seq LIMIT 1";
        self.first("look for due mail", sql, [millis(now)], |row| {
            let recipient: String = get(row, "recipient")?;
            let recipient = match recipient.as_str() {
                "" => None,
                address => Some(address.parse().map_err(StoreError::corrupt("recipient"))?),
            };
            let subject: String = get(row, "subject")?;
            let invitation = match subject.as_str() {
                "" => None,
                id => Some(id.parse().map_err(StoreError::corrupt("subject"))?),
            };
            Ok(QueuedMail {
                seq: get(row, "seq")?,
                account: parsed(row, "account_id")?,
                kind: parsed(row, "kind")?,
                recipient,
                invitation,
                attempts: get(row, "attempts")?,
                created_at: time(row, "created_at")?,
            })
        })
    }

    fn next_mail_due(&self) -> Result<Option<Timestamp>> {
        let sql = "SELECT due_at FROM mail_outbox ORDER BY due_at LIMIT 1";
        self.first("look at the mail queue", sql, [], |row| time(row, "due_at"))
    }

    fn postpone_mail(&mut self, seq: i64, due_at: Timestamp) -> Result<()> {
        let sql = "UPDATE mail_outbox SET due_at = ?2, attempts = attempts + 1 WHERE seq = ?1";
        self.run("postpone a mail", sql, params![seq, millis(due_at)]).map(drop)
    }

    fn drop_mail(&mut self, seq: i64) -> Result<()> {
        self.run("remove a mail from the queue", "DELETE FROM mail_outbox WHERE seq = ?1", [seq])
            .map(drop)
    }

    fn drop_mails(&mut self, account: AccountId, kind: MailKind) -> Result<()> {
        let sql = "DELETE FROM mail_outbox WHERE account_id = ?1 AND kind = ?2";
        self.run("remove mails from the queue", sql, params![text(&account), kind.as_str()])
            .map(drop)
    }
}

impl Tx<'_> {
    fn queue(
        &self,
        account: AccountId,
        kind: MailKind,
        recipient: &str,
        subject: &str,
        at: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO mail_outbox
                       (account_id, kind, recipient, subject, created_at, due_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                   ON CONFLICT (account_id, kind, recipient, subject) DO UPDATE
                       SET created_at = excluded.created_at, due_at = excluded.due_at, attempts = 0";
        let params = params![text(&account), kind.as_str(), recipient, subject, millis(at)];
        self.run("queue a mail", sql, params).map(drop)
    }
}
