//! The task that empties the queue, and forgets what is over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{MailError, Mailer, message};
use crate::http::problem::chain;
use crate::random::{self, Random};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, EmailToken, QueuedMail};
use crate::token::{Kind, PlainToken};

/// How long a verification link works.
const LINK_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Links of one account that work at the same time.
const LINKS_KEPT: u32 = 5;
/// Until the first retry; doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// The longest pause between two tries.
const LAST_RETRY: Duration = Duration::from_hours(1);
/// After this long a mail is given up; its reader can ask for another.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(48);
/// The longest sleep: what has expired is forgotten about this often.
const SWEEP: Duration = Duration::from_hours(1);

/// Sends mail until the process drains.
pub async fn run(state: AppState, mailer: Mailer) {
    let mut sweep_at = Instant::now();
    loop {
        // Not with each mail: it looks through whole tables, on the thread that commits.
        if Instant::now() >= sweep_at {
            sweep_at += SWEEP;
            sweep(&state).await;
        }
        let pause = match pass(&state, &mailer).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(error = %chain(&error), "mail waits: the database failed");
                FIRST_RETRY
            }
        };
        tokio::select! {
            () = state.drain.cancelled() => return,
            () = state.door.mail_due.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Forgets what is over.
async fn sweep(state: &AppState) {
    let now = state.clock.now();
    let forgotten: Result<usize, StoreError> = state
        .store
        .write(move |tables| Ok(tables.purge_account_tokens(now)? + tables.purge_oauth(now)?))
        .await;
    match forgotten {
        Ok(rows) => tracing::debug!(rows, "forgot what had expired"),
        Err(error) => tracing::error!(error = %chain(&error), "cannot forget what has expired"),
    }
}

/// Sends what is due; how long until there is more to do.
async fn pass(state: &AppState, mailer: &Mailer) -> Result<Duration, StoreError> {
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

/// One try. Its outcome is committed before the next one.
async fn attempt(state: &AppState, mailer: &Mailer, mail: QueuedMail) -> Result<(), StoreError> {
    let sent = match prepare(state, mail).await? {
        None => Ok(()),
        Some((account, token)) => send(state, mailer, &account, token).await,
    };
    let account = mail.account;
    match sent {
        Ok(()) => state.store.write(move |tables| tables.drop_mail(mail.seq)).await,
        Err(error) => {
            let now = state.clock.now();
            let old = now.duration_since(mail.created_at) > GIVE_UP;
            if old || error.is_final() {
                tracing::error!(%account, error = %chain(&error), "gave a mail up");
                return state.store.write(move |tables| tables.drop_mail(mail.seq)).await;
            }
            let pause = retry_after(mail.attempts, &*state.random);
            tracing::warn!(%account, error = %chain(&error), ?pause, "a mail was not sent");
            let due_at = SignedDuration::try_from(pause).map_or(now, |pause| now + pause);
            state.store.write(move |tables| tables.postpone_mail(mail.seq, due_at)).await
        }
    }
}

/// The account and a fresh token, if the mail is still of use.
async fn prepare(
    state: &AppState,
    mail: QueuedMail,
) -> Result<Option<(Account, PlainToken)>, StoreError> {
    let token = PlainToken::generate(Kind::EmailVerification, &*state.random);
    let hash = token.hashed();
    let expires_at = state.clock.now() + LINK_LIFETIME;
    let account: Option<Account> = state
        .store
        .write(move |tables| {
            let account = tables.account(mail.account)?;
            let account = account.filter(|account| account.email_verified_at.is_none());
            if let Some(account) = &account {
                let email_key = account.email.key();
                let link = EmailToken { hash, account: account.id, email_key, expires_at };
                tables.insert_email_token(&link, LINKS_KEPT)?;
            }
            Ok::<_, StoreError>(account)
        })
        .await?;
    Ok(account.map(|account| (account, token)))
}

async fn send(
    state: &AppState,
    mailer: &Mailer,
    account: &Account,
    token: PlainToken,
) -> Result<(), MailError> {
    let url = state.config.api.public_url();
    let mail = message::verification(&mailer.from, account, &url, &token.into_secret())?;
    mailer.send(mail).await
}

/// Exponential, capped, and spread over half of itself, so that a server that comes back is not
/// met by all at once.
fn retry_after(attempts: u32, random: &dyn Random) -> Duration {
    let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(attempts)).min(LAST_RETRY);
    let [byte] = random::bytes::<1>(random);
    pause / 2 + (pause / 2).mul_f64(f64::from(byte) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn pauses_grow_and_are_capped() {
        for attempts in [0, 1, 5, 40, u32::MAX] {
            let pause = retry_after(attempts, &SystemRandom);
            let whole = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(attempts)).min(LAST_RETRY);
            assert!(pause >= whole / 2 && pause <= whole, "{attempts}: {pause:?}");
        }
    }
}
