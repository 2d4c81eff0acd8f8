//! Revisions.

use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::Digest;
use buddo_shared::port::Port;
use jiff::Timestamp;

use super::column::{
    failure, get, json, millis, opt_millis, opt_parsed, opt_time, parsed, text, time, to_json,
    to_word, word,
};
use super::{Row, Tx, params};
use crate::domain::failure::Failure;
use crate::domain::revision::RevisionRecord;
use crate::store::contract::{Result, Revisions, StoreError};

// Both read everything but the environment.
const ONE: &str = "
    SELECT number, image, digest, port, domains, probe, strategy, rollback_of, created_at, live_at,
        failure_code, failure_cause, failure_fix
    FROM revisions WHERE deployment_id = ?1 AND number = ?2";

const ALL: &str = "
    SELECT number, image, digest, port, domains, probe, strategy, rollback_of, created_at, live_at,
        failure_code, failure_cause, failure_fix
    FROM revisions WHERE deployment_id = ?1 ORDER BY number";

const INSERT: &str = "
    INSERT INTO revisions (deployment_id, number, image, digest, port, env, domains, probe,
        strategy, rollback_of, created_at, live_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const MANY: &str = "
    SELECT r.deployment_id AS id FROM revisions r JOIN deployments d ON d.id = r.deployment_id
    WHERE d.status <> 'destroyed' AND (?2 IS NULL OR r.deployment_id > ?2)
    GROUP BY r.deployment_id HAVING count(*) > ?1 ORDER BY r.deployment_id LIMIT ?3";

impl Revisions for Tx<'_> {
    fn revision(&self, id: DeploymentId, number: Revision) -> Result<Option<RevisionRecord>> {
        self.first("read a revision", ONE, params![text(&id), number.get()], read)
    }

    fn revisions(&self, id: DeploymentId) -> Result<Vec<RevisionRecord>> {
        self.all("list revisions", ALL, [text(&id)], read)
    }

    fn environment(&self, id: DeploymentId, number: Revision) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT env FROM revisions WHERE deployment_id = ?1 AND number = ?2";
        let params = params![text(&id), number.get()];
        let env = self.first("read an environment", sql, params, |row| get(row, "env"))?;
        Ok(env.flatten())
    }

    fn last_revision(&self, id: DeploymentId) -> Result<Option<Revision>> {
        let sql = "SELECT max(number) AS number FROM revisions WHERE deployment_id = ?1";
        let number = self.first("read the last revision", sql, [text(&id)], |row| {
            get::<Option<u32>>(row, "number")
        })?;
        Ok(number.flatten().map(Revision::new))
    }

    fn insert_revision(
        &mut self,
        id: DeploymentId,
        revision: &RevisionRecord,
        env: Option<&[u8]>,
    ) -> Result<()> {
        let r = revision;
        let params = params![
            text(&id),
            r.number.get(),
            text(&r.image),
            r.digest.as_ref().map(Digest::as_str),
            r.port.get(),
            env,
            to_json(&r.domains)?,
            to_json(&r.probe)?,
            to_word(&r.strategy)?,
            r.rollback_of.map(Revision::get),
            millis(r.created_at),
            opt_millis(r.live_at),
        ];
        self.run("store a revision", INSERT, params).map(drop)
    }

    fn set_digest(&mut self, id: DeploymentId, number: Revision, digest: &Digest) -> Result<()> {
        let sql = "UPDATE revisions SET digest = ?3
                   WHERE deployment_id = ?1 AND number = ?2 AND digest IS NULL";
        let params = params![text(&id), number.get(), digest.as_str()];
        self.run("store a digest", sql, params).map(drop)
    }

    fn set_live(&mut self, id: DeploymentId, number: Revision, at: Timestamp) -> Result<bool> {
        let sql = "UPDATE revisions SET live_at = ?3
                   WHERE deployment_id = ?1 AND number = ?2 AND live_at IS NULL";
        let params = params![text(&id), number.get(), millis(at)];
        self.run("record that a revision is live", sql, params).map(|rows| rows > 0)
    }

    fn set_failure(&mut self, id: DeploymentId, number: Revision, why: &Failure) -> Result<bool> {
        let sql = "UPDATE revisions SET failure_code = ?3, failure_cause = ?4, failure_fix = ?5
                   WHERE deployment_id = ?1 AND number = ?2 AND failure_code IS NULL";
        let params = params![text(&id), number.get(), why.code, why.cause, why.fix];
        self.run("record why a revision failed", sql, params).map(|rows| rows > 0)
    }

    fn forget_revisions(&mut self, id: DeploymentId, numbers: &[Revision]) -> Result<()> {
        let sql = "DELETE FROM revisions WHERE deployment_id = ?1 AND number = ?2";
        for number in numbers {
            self.run("delete a revision", sql, params![text(&id), number.get()])?;
        }
        Ok(())
    }

    fn with_many_revisions(
        &self,
        keep: usize,
        after: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<DeploymentId>> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        let params = params![keep, after.as_ref().map(text), limit];
        self.all("list deployments with many revisions", MANY, params, |row| parsed(row, "id"))
    }

    fn erase_env(&mut self, id: DeploymentId) -> Result<()> {
        let sql = "UPDATE revisions SET env = NULL WHERE deployment_id = ?1";
        self.run("erase an environment", sql, [text(&id)]).map(drop)
    }
}

fn read(row: &Row<'_>) -> Result<RevisionRecord> {
    let port: i64 = get(row, "port")?;
    Ok(RevisionRecord {
        number: Revision::new(get(row, "number")?),
        image: parsed(row, "image")?,
        digest: opt_parsed(row, "digest")?,
        port: Port::try_from(port).map_err(StoreError::corrupt("port"))?,
        domains: json(row, "domains")?,
        probe: json(row, "probe")?,
        strategy: word(row, "strategy")?,
        rollback_of: get::<Option<u32>>(row, "rollback_of")?.map(Revision::new),
        created_at: time(row, "created_at")?,
        live_at: opt_time(row, "live_at")?,
        failure: failure(row, ["failure_code", "failure_cause", "failure_fix"])?,
    })
}
