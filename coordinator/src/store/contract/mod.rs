//! The database as use cases see it: one trait per aggregate, all of them combined in [`Tables`].
//!
//! Methods that change something take `&mut self`, so that a read-only transaction, which provides
//! `&dyn Tables`, cannot call them.

mod accounts;
mod acts;
mod administration;
mod api_keys;
mod audit;
mod audit_chain;
mod changes;
mod clock;
#[cfg(test)]
pub(in crate::store) mod conformance;
mod consents;
mod deployments;
mod devices;
mod documents;
mod factors;
mod hosts;
mod idempotency;
mod invitations;
mod leases;
mod logins;
mod mails;
mod oauth;
mod orgs;
mod revisions;
mod sealed;
mod tiers;
mod trust;

pub use accounts::{Account, Accounts, BrowserSession, EmailToken, NewAccount, Suspension};
pub use acts::{Acts, NewOAuthAct, OAuthAct, OAuthActRow};
pub use administration::Administration;
pub use api_keys::{ApiKeyRow, ApiKeys};
pub use audit::{Action, AdminActRow, Audit, AuditRow, AuditStatus, NewAudit};
pub use audit_chain::{AuditChain, AuditChainState, Break, ChainLink};
pub use changes::{AccountAct, AccountActRow, Changes, MailedLink, Purpose};
pub use clock::{ClockMark, ClockMarks};
pub use consents::{Connection, Consents};
pub use deployments::{Count, Counts, DeploymentRow, Deployments, Page};
pub use devices::{DeviceCode, Devices};
pub use documents::{DocumentRow, DocumentTrust, Documents};
pub use factors::{Factors, TotpRow};
pub use hosts::{
    CandidateHost, CandidateMark, CandidateSearch, Host, Hosts, JoinTokenRow, Load, Reach,
};
pub use idempotency::{ANSWERS_KEPT, Idempotency, Replay};
pub use invitations::{InvitationRow, Invitations};
pub use leases::{Lease, Leases};
pub use logins::{LoginRow, Logins};
pub use mails::{MailKind, MailQueue, QueuedMail, UnknownMail};
pub use oauth::{Client, Code, Grant, OAuth, Token, TokenKind};
pub use orgs::{MemberRow, Membership, NewOrgAct, OrgAct, OrgActRow, OrgRow, Orgs, TeamRow, Teams};
pub use revisions::{Revisions, SealedEnvironments};
pub use sealed::{SealedValue, SealedValues};
pub use tiers::{Tier, Tiers};
pub use trust::{HostIdentities, HostIdentity};

/// One transaction's view of everything.
pub trait Tables:
    Deployments
    + Revisions
    + Tiers
    + Hosts
    + Leases
    + HostIdentities
    + Documents
    + Audit
    + Idempotency
    + Accounts
    + Changes
    + Factors
    + Logins
    + MailQueue
    + OAuth
    + Consents
    + Devices
    + Acts
    + Orgs
    + Teams
    + Invitations
    + ApiKeys
    + AuditChain
    + SealedValues
    + Administration
    + ClockMarks
{
}

impl<T> Tables for T where
    T: Deployments
        + Revisions
        + Tiers
        + Hosts
        + Leases
        + HostIdentities
        + Documents
        + Audit
        + Idempotency
        + Accounts
        + Changes
        + Factors
        + Logins
        + MailQueue
        + OAuth
        + Consents
        + Devices
        + Acts
        + Orgs
        + Teams
        + Invitations
        + ApiKeys
        + AuditChain
        + SealedValues
        + Administration
        + ClockMarks
{
}

/// The result of a database operation.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The cause of a database error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A database operation failed. The transaction is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or prepared.
    #[error("cannot open the database {path}")]
    Open {
        path: String,
        #[source]
        source: Cause,
    },
    /// The WAL mode of the linked SQLite version can corrupt the file.
    #[error("the linked SQLite is {0}, which can corrupt its file; 3.51.3 or newer is needed")]
    OldSqlite(String),
    /// A newer program wrote the file.
    #[error(
        "the database {path} has schema {found} and this program knows {known}; \
         install the version that wrote it, or a newer one"
    )]
    NewerSchema {
        path: String,
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// The file has an older schema, and is in use by a program of that version.
    #[error(
        "the database {path} has schema {found} and this program would bring it to {known}, but a \
         coordinator or a command of the older version has it open; stop that one and start this \
         version's `serve`, or run the command with the version that serves"
    )]
    Held {
        path: String,
        found: i64,
        /// The one that this program needs.
        known: i64,
    },
    #[error("database: cannot {operation}")]
    Operation {
        operation: &'static str,
        #[source]
        source: Cause,
    },
    /// The disk is full. Reading still works.
    #[error("database: no space left to {operation}; try again later")]
    Full { operation: &'static str },
    /// A stored value is not what this program writes.
    #[error("database: {what} holds a value that cannot be read")]
    Corrupt {
        what: &'static str,
        #[source]
        source: Cause,
    },
    /// Another transaction changed what this one has read, and both cannot stand. The store runs
    /// the work again, so that no use case sees this error as its result.
    #[error("database: cannot {operation}: another transaction changed the same rows")]
    Conflict {
        operation: &'static str,
        #[source]
        source: Cause,
    },
    /// The queue is too long to be worked off in time, or the work met a conflict each time.
    #[error("the database is busy; try again")]
    Busy,
    /// The database's thread ended or the work panicked.
    #[error("the database did not answer")]
    Closed,
}

impl StoreError {
    /// For `map_err`: the statement for `operation` failed.
    pub fn operation<E: Into<Cause>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Operation { operation, source: error.into() }
    }

    /// For `map_err`: the statement for `operation` met a [`Self::Conflict`].
    pub fn conflict<E: Into<Cause>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Conflict { operation, source: error.into() }
    }

    /// For `map_err`: `what` holds an unreadable value.
    pub fn corrupt<E: Into<Cause>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Corrupt { what, source: error.into() }
    }
}
