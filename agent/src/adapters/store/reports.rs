//! Reports until the coordinator acknowledges them.

use std::collections::BTreeMap;

use buddo_shared::host_wire::report::{Report, ReportBody};
use jiff::Timestamp;
use rusqlite::Connection;

use super::{Store, StoreError};

/// A level to report: of which subject, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// A deployment's id, or `host`.
    pub subject: String,
    pub body: ReportBody,
    /// Whether the subject is gone: nothing is remembered of it after this report.
    pub last: bool,
}

/// Makes a database without reports number them from `seq` on, unless it is further already.
pub(super) fn begin_at(connection: &Connection, seq: u64) -> rusqlite::Result<()> {
    let seq = i64::try_from(seq).unwrap_or(i64::MAX / 2);
    connection
        .execute("INSERT OR IGNORE INTO counter (only_one, seq) VALUES (1, ?1)", [seq])
        .map(drop)
}

impl Store {
    /// Writes reports observed at `at`, in this order, in one transaction. Returns the last one's
    /// number.
    pub async fn report(&self, entries: Vec<Entry>, at: Timestamp) -> Result<u64, StoreError> {
        let mut rows = Vec::with_capacity(entries.len());
        for Entry { subject, body, last } in entries {
            let remembered = serde_json::to_string(&body).map_err(malformed)?;
            // The number is not known yet; it is filled in when the report is read.
            let report = serde_json::to_string(&Report { seq: 0, at, body }).map_err(malformed)?;
            rows.push((subject, report, (!last).then_some(remembered)));
        }
        let seq = self
            .call("store reports", move |connection| {
                let transaction = connection.transaction()?;
                let mut seq: i64 =
                    transaction.query_row("SELECT seq FROM counter", [], |row| row.get(0))?;
                for (subject, report, remembered) in &rows {
                    seq += 1;
                    transaction.execute("DELETE FROM reports WHERE subject = ?1", [subject])?;
                    transaction.execute(
                        "INSERT INTO reports (seq, subject, report) VALUES (?1, ?2, ?3)",
                        (seq, subject, report),
                    )?;
                    match remembered {
                        Some(body) => transaction.execute(
                            "INSERT INTO reported (subject, body) VALUES (?1, ?2)
                             ON CONFLICT (subject) DO UPDATE SET body = ?2",
                            (subject, body),
                        )?,
                        None => transaction
                            .execute("DELETE FROM reported WHERE subject = ?1", [subject])?,
                    };
                }
                transaction.execute("UPDATE counter SET seq = ?1", [seq])?;
                transaction.commit()?;
                Ok(seq)
            })
            .await?;
        Ok(u64::try_from(seq).unwrap_or_default())
    }

    /// Unacknowledged reports after `seq`, oldest first, at most `limit`.
    pub async fn reports_after(&self, seq: u64, limit: usize) -> Result<Vec<Report>, StoreError> {
        let after = i64::try_from(seq).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(i64, String)> = self
            .call("read reports", move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT seq, report FROM reports WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                )?;
                let rows =
                    statement.query_map([after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect()
            })
            .await?;
        rows.into_iter()
            .map(|(seq, report)| {
                let report: Report = serde_json::from_str(&report).map_err(malformed)?;
                Ok(Report { seq: u64::try_from(seq).unwrap_or_default(), ..report })
            })
            .collect()
    }

    /// How many reports are not acknowledged.
    pub async fn unacknowledged(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .call("count reports", |connection| {
                connection.query_row("SELECT count(*) FROM reports", [], |row| row.get(0))
            })
            .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Forgets reports up to and with `seq`, and remembers that they were acknowledged.
    pub async fn acknowledge(&self, seq: u64) -> Result<(), StoreError> {
        let through = i64::try_from(seq).unwrap_or(i64::MAX);
        self.call("forget acknowledged reports", move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM reports WHERE seq <= ?1", [through])?;
            transaction.execute(
                "UPDATE counter SET acknowledged = max(acknowledged, min(?1, seq))",
                [through],
            )?;
            transaction.commit()
        })
        .await
    }

    /// The last report that was acknowledged; 0: none ever.
    pub async fn acknowledged(&self) -> Result<u64, StoreError> {
        let seq: i64 = self
            .call("read what was acknowledged", |connection| {
                connection.query_row("SELECT acknowledged FROM counter", [], |row| row.get(0))
            })
            .await?;
        Ok(u64::try_from(seq).unwrap_or_default())
    }

    /// What was last reported of each subject.
    pub async fn reported(&self) -> Result<BTreeMap<String, ReportBody>, StoreError> {
        let rows: Vec<(String, String)> = self
            .call("read what was reported", |connection| {
                let mut statement = connection.prepare("SELECT subject, body FROM reported")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect()
            })
            .await?;
        rows.into_iter()
            .map(|(subject, body)| Ok((subject, serde_json::from_str(&body).map_err(malformed)?)))
            .collect()
    }
}

fn malformed(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Malformed { what: "report", source: Box::new(source) }
}
