//! Recorded times.

use jiff::Timestamp;

use super::column::{millis, time};
use super::{Tx, params};
use crate::store::contract::{ClockMark, ClockMarks, Result};

fn key(mark: ClockMark) -> &'static str {
    match mark {
        ClockMark::Seen => "clock_seen",
        ClockMark::Confirmed => "clock_confirmed",
    }
}

impl ClockMarks for Tx<'_> {
    fn clock_mark(&self, mark: ClockMark) -> Result<Option<Timestamp>> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.first("read a time", sql, [key(mark)], |row| time(row, "value"))
    }

    fn set_clock_mark(&mut self, mark: ClockMark, at: Timestamp) -> Result<()> {
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.run("record a time", sql, params![key(mark), millis(at)]).map(drop)
    }
}
