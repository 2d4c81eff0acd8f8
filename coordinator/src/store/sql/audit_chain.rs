//! One hash chain over all audit logs.
//!
//! ```text
//! entry of a log ─► link n: SHA-256(link n-1 | n | time | log | entry's number and columns) ─► head
//! old entries    ─► anchor (the last pruned link) ─► an entry about it ─► deleted
//! ```
//!
//! The columns are hashed as they are stored, each with its type and length. Triggers refuse every
//! other change; changes that bypass them are found by [`AuditChain::verify_audit_chain`].

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::json;

use super::column::{get, millis};
use super::value::Value;
use super::{Row, Tx, params};
use crate::store::contract::{
    Audit as _, AuditChain, AuditChainState, Break, ChainLink, Result, StoreError,
};

/// A log: its table, whose key is `seq`, and its columns in the order in which they are hashed.
/// Released ones are never changed; a log that gets a column needs a new version of the hash.
pub(in crate::store) struct Log {
    pub(in crate::store) table: &'static str,
    select: &'static str,
}

macro_rules! logs {
    ($($name:ident = $table:literal, $columns:literal;)*) => {
        $(pub(in crate::store) const $name: Log = Log {
            table: $table,
            select: concat!("SELECT ", $columns, " FROM ", $table, " WHERE seq = ?1"),
        };)*
        /// Every log, in the order in which entries of equal time from before the chain were added
        /// to it.
        pub(in crate::store) const LOGS: &[&Log] = &[$(&$name),*];
    };
}

logs! {
    AUDIT = "audit", "seq, id, deployment_id, action, status, initiated_by, at, details";
    OUTCOMES = "audit_outcomes", "seq, audit_seq, status, at, details";
    ACCOUNT = "account_audit", "seq, account_id, action, at, details";
    OAUTH = "oauth_audit", "seq, action, client_id, account_id, actor, at, details";
    ADMIN = "admin_audit", "seq, action, at, details, actor";
    ORG = "org_audit", "seq, org_id, team_id, actor, action, at, details";
}

/// Initial input of the chain.
const DOMAIN: &[u8] = b"buddo audit chain 1\0";
/// The links after a given one, oldest first.
const OLDEST: &str = "
    SELECT seq, log, entry, at, hash FROM audit_chain WHERE seq > ?1 ORDER BY seq LIMIT ?2";
/// Links that a verification reads at once.
const WALK: u32 = 1000;

/// Deletes a log's entries up to a link. The `|| ''` keeps a planner from the index by log, which
/// has all links of the log: those up to this one are few.
fn forget(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE seq IN
             (SELECT entry FROM audit_chain WHERE log || '' = '{table}' AND seq <= ?1)"
    )
}

/// The entry that records up to where the chain was pruned.
const PRUNED: &str = "audit_pruned";

/// Adds entries from before the chain to it, once.
pub(in crate::store) fn begin(tx: &Tx<'_>) -> Result<()> {
    if tx.end("audit_head")?.seq != 0 || tx.end("audit_anchor")?.seq != 0 {
        return Ok(());
    }
    let mut entries: Vec<(i64, usize, i64)> = Vec::new();
    for (index, log) in LOGS.iter().enumerate() {
        let sql = format!("SELECT seq, at FROM {} ORDER BY seq", log.table);
        let found = tx.all("read an audit log", &sql, [], |row| {
            Ok((get(row, "at")?, index, get(row, "seq")?))
        })?;
        entries.extend(found);
    }
    entries.sort_unstable();
    for (at, log, seq) in entries {
        tx.chain(LOGS[log], seq, at)?;
    }
    Ok(())
}

impl Tx<'_> {
    /// Adds the link of an entry just inserted into `log`.
    pub(super) fn link(&self, log: &Log, entry: i64, at: Timestamp) -> Result<()> {
        self.chain(log, entry, millis(at))
    }

    fn chain(&self, log: &Log, entry: i64, at: i64) -> Result<()> {
        let operation = "chain an audit entry";
        let before = self.end("audit_head")?;
        let seq = before.seq + 1;
        let hash = self.hash(&before, log, entry, at)?.ok_or_else(|| {
            StoreError::operation(operation)(format!("{} has no entry {entry}", log.table))
        })?;
        let sql = "INSERT INTO audit_chain (seq, log, entry, at, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.run(operation, sql, params![seq, log.table, entry, at, hash])?;
        let sql = "UPDATE audit_head SET seq = ?1, hash = ?2";
        self.run(operation, sql, params![seq, hash]).map(drop)
    }

    /// The hash of the link after `before`; `None`: the log has no such entry.
    fn hash(&self, before: &ChainLink, log: &Log, entry: i64, at: i64) -> Result<Option<[u8; 32]>> {
        let mut context = Context::new(&SHA256);
        context.update(DOMAIN);
        context.update(&before.hash);
        for number in [before.seq + 1, at] {
            context.update(&number.to_be_bytes());
        }
        sized(&mut context, 3, log.table.as_bytes());
        let of_row = |row: &Row<'_>| {
            let mut context = context.clone();
            take_in(&mut context, row);
            let mut hash = [0; 32];
            hash.copy_from_slice(context.finish().as_ref());
            Ok(hash)
        };
        self.first("read an audit entry", log.select, [entry], of_row)
    }

    /// The only row of `audit_head` or `audit_anchor`.
    fn end(&self, table: &'static str) -> Result<ChainLink> {
        let sql = format!("SELECT seq, hash FROM {table} WHERE id = 1");
        let end = self.first("read the audit chain's end", &sql, [], read_link)?;
        end.ok_or_else(|| StoreError::operation("read the audit chain's end")("it is gone"))
    }

    /// The first invalid link after the anchor, or the last link.
    fn walk(&self, anchor: ChainLink) -> Result<std::result::Result<ChainLink, Break>> {
        // From the first link there is, so that one below the anchor is noticed. Some at a time:
        // the entries are read in between.
        let (mut last, mut from) = (anchor, i64::MIN);
        loop {
            let links = self.all("read the audit chain", OLDEST, params![from, WALK], |row| {
                Ok((
                    read_link(row)?,
                    get::<String>(row, "log")?,
                    get(row, "entry")?,
                    get(row, "at")?,
                ))
            })?;
            let Some((newest, ..)) = links.last() else { return Ok(Ok(last)) };
            from = newest.seq;
            for (found, name, entry, at) in links {
                match self.step(last, found, &name, entry, at)? {
                    Ok(()) => last = found,
                    Err(broken) => return Ok(Err(broken)),
                }
            }
        }
    }

    /// Whether `found` is the link after `last`.
    fn step(
        &self,
        last: ChainLink,
        found: ChainLink,
        name: &str,
        entry: i64,
        at: i64,
    ) -> Result<std::result::Result<(), Break>> {
        let link = last.seq + 1;
        if found.seq != link {
            return Ok(Err(Break { link, entry: None, what: "the link is missing" }));
        }
        let broken = |what| Ok(Err(Break { link, entry: Some((name.to_owned(), entry)), what }));
        let Some(log) = LOGS.iter().find(|log| log.table == name) else {
            return broken("the link names no log");
        };
        match self.hash(&last, log, entry, at)? {
            None => broken("the entry is missing"),
            Some(hash) if hash != found.hash => broken("the entry or its link was changed"),
            Some(_) => Ok(Ok(())),
        }
    }

    /// An entry without a link.
    fn stray(&self) -> Result<Option<(String, i64)>> {
        for log in LOGS {
            let table = log.table;
            let sql = format!(
                "SELECT min(seq) AS seq FROM {table} WHERE NOT EXISTS
                     (SELECT 1 FROM audit_chain WHERE log = '{table}' AND entry = {table}.seq)"
            );
            let found = self.first("look for entries without a link", &sql, [], |row| {
                get::<Option<i64>>(row, "seq")
            })?;
            if let Some(seq) = found.flatten() {
                return Ok(Some((table.to_owned(), seq)));
            }
        }
        Ok(None)
    }

    /// Whether the log records that the chain was pruned up to `anchor`.
    fn is_told(&self, anchor: &ChainLink) -> Result<bool> {
        let sql = "SELECT details FROM admin_audit WHERE action = ?1 ORDER BY seq DESC LIMIT 1";
        let told = self.first("read the administrators' log", sql, [PRUNED], |row| {
            super::column::json::<serde_json::Value>(row, "details")
        })?;
        let names = |told: serde_json::Value| {
            told["through"] == anchor.seq && told["hash"] == HEXLOWER.encode(&anchor.hash)
        };
        Ok(anchor.seq == 0 || told.is_some_and(names))
    }
}

impl AuditChain for Tx<'_> {
    fn audit_chain_head(&self) -> Result<ChainLink> {
        self.end("audit_head")
    }

    fn audit_chain_link(&self, seq: i64) -> Result<Option<ChainLink>> {
        let anchor = self.end("audit_anchor")?;
        if anchor.seq == seq {
            return Ok(Some(anchor));
        }
        let sql = "SELECT seq, hash FROM audit_chain WHERE seq = ?1";
        self.first("read a link", sql, [seq], read_link)
    }

    fn verify_audit_chain(&self) -> Result<AuditChainState> {
        let (anchor, head) = (self.end("audit_anchor")?, self.end("audit_head")?);
        let last = match self.walk(anchor)? {
            Ok(last) => last,
            Err(broken) => return Ok(AuditChainState::Broken(broken)),
        };
        let broken = |link, entry, what| Ok(AuditChainState::Broken(Break { link, entry, what }));
        if last.seq < head.seq {
            return broken(last.seq + 1, None, "the end of the chain is cut off from here on");
        }
        if last != head {
            return broken(last.seq, None, "the head of the chain is another one");
        }
        if let Some(stray) = self.stray()? {
            return broken(last.seq + 1, Some(stray), "the entry is in no chain");
        }
        if !self.is_told(&anchor)? {
            return broken(anchor.seq, None, "the chain was cut here, and no entry says so");
        }
        Ok(AuditChainState::Whole { anchor, head })
    }

    fn prune_audit_chain(&mut self, cutoff: Timestamp, now: Timestamp, most: u32) -> Result<u64> {
        let operation = "delete old audit entries";
        let anchor = self.end("audit_anchor")?;
        // From the beginning up to the first recent entry: a clock that was set back leaves no gap.
        let mut last = anchor;
        for (link, at) in self.all(operation, OLDEST, params![anchor.seq, most], |row| {
            Ok((read_link(row)?, get::<i64>(row, "at")?))
        })? {
            if at >= millis(cutoff) {
                break;
            }
            last = link;
        }
        if last.seq == anchor.seq {
            return Ok(0);
        }
        let details = json!({
            "through": last.seq, "hash": HEXLOWER.encode(&last.hash), "entries": last.seq - anchor.seq,
        });
        self.insert_admin_act(PRUNED, now, None, &details)?;
        let sql = "UPDATE audit_anchor SET seq = ?1, hash = ?2";
        self.run(operation, sql, params![last.seq, last.hash])?;
        for log in LOGS {
            let table = log.table;
            self.run(operation, &forget(table), [last.seq])?;
        }
        self.run(operation, "DELETE FROM audit_chain WHERE seq <= ?1", [last.seq])?;
        Ok(last.seq.abs_diff(anchor.seq))
    }
}

fn read_link(row: &Row<'_>) -> Result<ChainLink> {
    Ok(ChainLink { seq: get(row, "seq")?, hash: get(row, "hash")? })
}

fn take_in(context: &mut Context, row: &Row<'_>) {
    for value in (0..).map_while(|index| row.at(index)) {
        match value {
            Value::Null => context.update(&[0]),
            Value::Integer(value) => sized(context, 1, &value.to_be_bytes()),
            Value::Real(value) => sized(context, 2, &value.to_bits().to_be_bytes()),
            Value::Text(text) => sized(context, 3, text.as_bytes()),
            Value::Blob(bytes) => sized(context, 4, bytes),
        }
    }
}

/// Hashes a value with its type and length, so that no two rows are hashed alike.
fn sized(context: &mut Context, kind: u8, bytes: &[u8]) {
    context.update(&[kind]);
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}
