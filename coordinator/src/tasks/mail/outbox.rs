//! The task that empties the mail queue and purges expired rows.

use std::time::Duration;

use buddo_runtime::error_chain::chain;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::message::{self, Letter};
use super::texts::{Button, Invited, link_of};
use super::{MailError, Mailer};
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::crypto::random;
use crate::domain::identity::HashedToken;
use crate::domain::mailed_link::{ACCOUNT_CHANGE, VERIFICATION};
use crate::process::retries;
use crate::service::accounts;
use crate::state::AppState;
use crate::store::contract::{
    ANSWERS_KEPT, Account, EmailToken, MailKind, MailedLink, Purpose, QueuedMail,
};
use crate::store::{StoreError, Tables};

/// Verification links of one account that are valid at the same time.
const LINKS_KEPT: u32 = 5;
/// How long an expired or revoked key is still listed, so that people see why it is refused.
const KEYS_LISTED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Until the database is asked again after it failed.
const DATABASE_RETRY: Duration = Duration::from_secs(15);
/// A mail is given up after this long; its reader can ask for another.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(48);
/// The longest sleep: expired rows are purged about this often.
const SWEEP: Duration = Duration::from_hours(1);

/// Rows of a table purged in one transaction.
const PURGED: u32 = 100;

/// Sends mail until the process drains.
pub async fn run(state: AppState, mailer: Mailer) {
    let mut sweep_at = Instant::now();
    loop {
        if Instant::now() >= sweep_at {
            sweep_at += SWEEP;
            sweep(&state).await;
        }
        let pause = match pass(&state, &mailer).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(error = %chain(&error), "mail is delayed: the database failed");
                DATABASE_RETRY
            }
        };
        tokio::select! {
            () = state.drain.cancelled() => return,
            () = state.mail_due.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Purges some expired rows of one kind; returns how many, 0 once none are left.
type Purge = fn(&mut dyn Tables, Timestamp) -> Result<usize, StoreError>;

const PURGES: [Purge; 7] = [
    |tables, now| tables.purge_account_tokens(now, PURGED),
    |tables, now| tables.purge_oauth(now, PURGED),
    |tables, now| tables.purge_links(now, PURGED),
    |tables, now| tables.purge_invitations(now, PURGED),
    |tables, now| tables.purge_api_keys(now - KEYS_LISTED, PURGED),
    |tables, now| tables.purge_logins(now, PURGED),
    |tables, now| tables.purge_answers(now - ANSWERS_KEPT, PURGED),
];

/// Purges expired rows in batches, so that no request waits long for its own transaction.
pub(crate) async fn sweep(state: &AppState) {
    // A clock that is ahead would make everything look old.
    let Ok(now) = state.time.believed() else { return };
    let mut forgotten = 0;
    for purge in PURGES {
        while !state.drain.is_cancelled() {
            match state.store.write(move |tables| purge(tables, now)).await {
                Ok(0) => break,
                Ok(some) => forgotten += some,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "cannot purge expired rows");
                    return;
                }
            }
        }
    }
    tracing::debug!(rows = forgotten, "purged expired rows");
}

/// Sends what is due; returns how long until there is more to do.
pub(crate) async fn pass(state: &AppState, mailer: &Mailer) -> Result<Duration, StoreError> {
    accounts::admit_requests(state).await?;
    while !state.drain.is_cancelled() {
        let now = state.clock.now();
        let due: Option<QueuedMail> = state.store.read(move |tables| tables.due_mail(now)).await?;
        let Some(mail) = due else { break };
        attempt(state, mailer, mail).await?;
    }
    let next: Option<Timestamp> = state.store.read(|tables| tables.next_mail_due()).await?;
    let wait = next.map(|at| at.duration_since(state.clock.now()));
    let wait = wait.map_or(SWEEP, |wait| Duration::try_from(wait).unwrap_or(Duration::ZERO));
    Ok(wait.min(SWEEP))
}

/// One attempt. Its outcome is committed before the next one.
async fn attempt(state: &AppState, mailer: &Mailer, mail: QueuedMail) -> Result<(), StoreError> {
    let QueuedMail { seq, account, kind, attempts, created_at, .. } = mail;
    let sent = match prepare(state, mail).await? {
        None => Ok(()),
        Some(letter) => send(state, mailer, &letter).await,
    };
    match sent {
        Ok(()) => state.store.write(move |tables| tables.drop_mail(seq)).await,
        Err(error) => {
            let now = state.clock.now();
            let old = now.duration_since(created_at) > GIVE_UP && state.time.check().is_ok();
            let kind = kind.as_str();
            if old || error.is_final() {
                tracing::error!(%account, kind, error = %chain(&error), "gave up on a mail");
                return state.store.write(move |tables| tables.drop_mail(seq)).await;
            }
            let pause = retries::MAIL.delay(attempts, random::fraction(&*state.random));
            tracing::warn!(%account, kind, error = %chain(&error), ?pause, "a mail was not sent");
            let due_at = SignedDuration::try_from(pause).map_or(now, |pause| now + pause);
            state.store.write(move |tables| tables.postpone_mail(seq, due_at)).await
        }
    }
}

/// The mail with a fresh token, if it still makes sense.
async fn prepare(state: &AppState, mail: QueuedMail) -> Result<Option<Letter>, StoreError> {
    let token = token_of(mail.kind).map(|kind| PlainToken::generate(kind, &*state.random));
    let hash = token.as_ref().map(PlainToken::hashed);
    let now = state.clock.now();
    let letter: Option<Letter> = state
        .store
        .write(move |tables| {
            let letter = addressed(tables, &mail)?;
            if let (Some(letter), Some(hash)) = (&letter, hash) {
                keep_link(tables, &mail, letter, hash, now)?;
            }
            Ok::<_, StoreError>(letter)
        })
        .await?;
    Ok(letter.map(|letter| {
        let button = link_of(letter.kind).zip(token).map(|((path, label), token)| Button {
            path,
            label,
            token: token.into_secret(),
        });
        Letter { button, ..letter }
    }))
}

/// The kind of token that a mail carries.
const fn token_of(kind: MailKind) -> Option<PlainTokenKind> {
    match kind {
        MailKind::VerifyEmail => Some(PlainTokenKind::EmailVerification),
        MailKind::ResetPassword => Some(PlainTokenKind::PasswordReset),
        MailKind::ChangeEmail => Some(PlainTokenKind::EmailChange),
        MailKind::Invitation => Some(PlainTokenKind::Invitation),
        _ => None,
    }
}

/// The recipient; `None`: the mail no longer makes sense.
fn addressed(tables: &dyn Tables, mail: &QueuedMail) -> Result<Option<Letter>, StoreError> {
    let account = tables.account(mail.account)?;
    if mail.kind == MailKind::Invitation {
        return invited(tables, mail, account);
    }
    if mail.kind == MailKind::VerifyEmail
        && account.as_ref().is_none_or(|account| account.email_verified_at.is_some())
    {
        return Ok(None);
    }
    let present = account.as_ref().map(|account| account.email.clone());
    let username = account.map(|account| account.username.to_string());
    Ok(mail.recipient.clone().or(present).map(|to| Letter {
        to,
        username,
        kind: mail.kind,
        button: None,
        invited: Invited::default(),
        at: mail.created_at,
    }))
}

/// The letter of a valid invitation. Its reader may have no account, so it greets nobody by name.
fn invited(
    tables: &dyn Tables,
    mail: &QueuedMail,
    inviter: Option<Account>,
) -> Result<Option<Letter>, StoreError> {
    let Some(id) = mail.invitation else { return Ok(None) };
    let Some((invitation, inviter)) = tables.invitation(id)?.zip(inviter) else { return Ok(None) };
    let Some(org) = tables.org(invitation.org)? else { return Ok(None) };
    let (by, role) = (inviter.username.to_string(), invitation.role.as_str());
    Ok(Some(Letter {
        to: invitation.email,
        username: None,
        kind: mail.kind,
        button: None,
        invited: Invited { by, org: org.slug, role },
        at: mail.created_at,
    }))
}

/// Stores the hash of a mail's token: from now on its link works.
fn keep_link(
    tables: &mut dyn Tables,
    mail: &QueuedMail,
    letter: &Letter,
    hash: HashedToken,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(invitation) = mail.invitation {
        return tables.set_invitation_token(invitation, &hash);
    }
    let purpose = match mail.kind {
        MailKind::ResetPassword => Purpose::ResetPassword,
        MailKind::ChangeEmail => Purpose::ChangeEmail,
        _ => {
            let (email_key, expires_at) = (letter.to.key(), now + VERIFICATION.duration());
            let link = EmailToken { hash, account: mail.account, email_key, expires_at };
            return tables.insert_email_token(&link, LINKS_KEPT);
        }
    };
    tables.insert_link(&MailedLink {
        hash,
        account: mail.account,
        purpose,
        email: letter.to.clone(),
        created_at: now,
        expires_at: now + ACCOUNT_CHANGE.duration(),
    })
}

async fn send(state: &AppState, mailer: &Mailer, letter: &Letter) -> Result<(), MailError> {
    let site = state.config.api.public_url();
    mailer.send(message::render(&mailer.from, letter, &site)?).await
}
