//! Revisions.

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::Digest;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;

use super::column::{get, millis, opt_millis, parsed, text, to_json};
use super::services::{gather, read};
use super::{Tx, params};
use crate::domain::failure::Failure;
use crate::domain::revision::RevisionRecord;
use crate::store::contract::{Result, Revisions, SealedEnvironments};

// Both read everything but the environments: one row for each service. A revision without one is
// damaged, and is not to look as if it did not exist.
const ONE: &str = "
    SELECT r.number, r.domains, r.rollback_of, r.created_at, r.live_at, r.failure_code,
        r.failure_cause, r.failure_fix, s.name, s.introduced, s.public, s.replicas, s.image,
        s.digest, s.port, s.probe, s.strategy
    FROM revisions r
    LEFT JOIN services s ON s.deployment_id = r.deployment_id AND s.revision = r.number
    WHERE r.deployment_id = ?1 AND r.number = ?2 ORDER BY s.name";

const ALL: &str = "
    SELECT r.number, r.domains, r.rollback_of, r.created_at, r.live_at, r.failure_code,
        r.failure_cause, r.failure_fix, s.name, s.introduced, s.public, s.replicas, s.image,
        s.digest, s.port, s.probe, s.strategy
    FROM revisions r
    LEFT JOIN services s ON s.deployment_id = r.deployment_id AND s.revision = r.number
    WHERE r.deployment_id = ?1 ORDER BY r.number, s.name";

const INSERT: &str = "
    INSERT INTO revisions (deployment_id, number, domains, rollback_of, created_at, live_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const MANY: &str = "
    SELECT r.deployment_id AS id FROM revisions r JOIN deployments d ON d.id = r.deployment_id
    WHERE d.status <> 'destroyed' AND (?2 IS NULL OR r.deployment_id > ?2)
    GROUP BY r.deployment_id HAVING count(*) > ?1 ORDER BY r.deployment_id LIMIT ?3";

impl Revisions for Tx<'_> {
    fn revision(&self, id: DeploymentId, number: Revision) -> Result<Option<RevisionRecord>> {
        let rows = self.all("read a revision", ONE, params![text(&id), number.get()], read)?;
        Ok(gather(rows)?.pop())
    }

    fn revisions(&self, id: DeploymentId) -> Result<Vec<RevisionRecord>> {
        gather(self.all("list revisions", ALL, [text(&id)], read)?)
    }

    fn environments(&self, id: DeploymentId, number: Revision) -> Result<SealedEnvironments> {
        self.environments_of(id, number)
    }

    fn introduced(
        &self,
        id: DeploymentId,
        number: Revision,
    ) -> Result<Vec<(ServiceName, Revision)>> {
        self.introduced_in(id, number)
    }

    fn had_service(&self, id: DeploymentId, name: ServiceName) -> Result<bool> {
        let sql = "SELECT 1 FROM services WHERE deployment_id = ?1 AND name = ?2 LIMIT 1";
        let params = params![text(&id), text(&name)];
        Ok(self.first("look up a service", sql, params, |_| Ok(()))?.is_some())
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
        envs: &SealedEnvironments,
    ) -> Result<()> {
        let r = revision;
        let params = params![
            text(&id),
            r.number.get(),
            to_json(&r.domains)?,
            r.rollback_of.map(Revision::get),
            millis(r.created_at),
            opt_millis(r.live_at),
        ];
        self.run("store a revision", INSERT, params)?;
        self.insert_services(id, r.number, &r.services, envs)
    }

    fn set_digest(
        &mut self,
        id: DeploymentId,
        service: ServiceName,
        introduced: Revision,
        digest: &Digest,
    ) -> Result<()> {
        let sql = "UPDATE services SET digest = ?4
                   WHERE deployment_id = ?1 AND name = ?2 AND introduced = ?3 AND digest IS NULL";
        let params = params![text(&id), text(&service), introduced.get(), digest.as_str()];
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
        let services = "DELETE FROM services WHERE deployment_id = ?1 AND revision = ?2";
        let revision = "DELETE FROM revisions WHERE deployment_id = ?1 AND number = ?2";
        for number in numbers {
            for sql in [services, revision] {
                self.run("delete a revision", sql, params![text(&id), number.get()])?;
            }
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
        let sql = "UPDATE services SET env = NULL WHERE deployment_id = ?1";
        self.run("erase environments", sql, [text(&id)]).map(drop)
    }
}
