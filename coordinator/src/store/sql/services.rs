//! The services of revisions.

use std::num::NonZeroU16;

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::Digest;
use buddo_shared::model::port::Port;
use buddo_shared::model::workload::ServiceName;

use super::column::{
    failure, get, json, opt_parsed, opt_time, parsed, text, time, to_json, to_word, word,
};
use super::{Row, Tx, params};
use crate::domain::revision::RevisionRecord;
use crate::domain::service::{Service, Services};
use crate::store::contract::{Result, SealedEnvironments, StoreError};

const INSERT: &str = "
    INSERT INTO services (deployment_id, revision, name, introduced, public, replicas, image,
        digest, port, probe, strategy, env)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

impl Tx<'_> {
    pub(super) fn insert_services(
        &self,
        id: DeploymentId,
        number: Revision,
        services: &Services,
        envs: &SealedEnvironments,
    ) -> Result<()> {
        for s in services.iter() {
            let params = params![
                text(&id),
                number.get(),
                text(&s.name),
                s.introduced.get(),
                services.is_public(s.name),
                s.replicas.get(),
                text(&s.image),
                s.digest.as_ref().map(Digest::as_str),
                s.port.get(),
                to_json(&s.probe)?,
                to_word(&s.strategy)?,
                envs.get(&s.name).map(Vec::as_slice),
            ];
            self.run("store a service", INSERT, params)?;
        }
        Ok(())
    }

    pub(super) fn environments_of(
        &self,
        id: DeploymentId,
        number: Revision,
    ) -> Result<SealedEnvironments> {
        let sql = "SELECT name, env FROM services
                   WHERE deployment_id = ?1 AND revision = ?2 AND env IS NOT NULL";
        let params = params![text(&id), number.get()];
        let each = |row: &Row<'_>| Ok((parsed(row, "name")?, get(row, "env")?));
        Ok(self.all("read environments", sql, params, each)?.into_iter().collect())
    }

    pub(super) fn introduced_in(
        &self,
        id: DeploymentId,
        number: Revision,
    ) -> Result<Vec<(ServiceName, Revision)>> {
        let sql = "SELECT name, introduced FROM services
                   WHERE deployment_id = ?1 AND revision = ?2 ORDER BY public DESC, name";
        let params = params![text(&id), number.get()];
        self.all("list the services of a revision", sql, params, |row| {
            Ok((parsed(row, "name")?, Revision::new(get(row, "introduced")?)))
        })
    }
}

/// A revision with one of its services.
pub(super) struct Joined {
    revision: RevisionRecord,
    is_public: bool,
}

pub(super) fn read(row: &Row<'_>) -> Result<Joined> {
    let port: i64 = get(row, "port")?;
    let replicas: u16 = get(row, "replicas")?;
    let service = Service {
        name: parsed(row, "name")?,
        introduced: Revision::new(get(row, "introduced")?),
        replicas: NonZeroU16::try_from(replicas).map_err(StoreError::corrupt("replicas"))?,
        image: parsed(row, "image")?,
        digest: opt_parsed(row, "digest")?,
        port: Port::try_from(port).map_err(StoreError::corrupt("port"))?,
        probe: json(row, "probe")?,
        strategy: word(row, "strategy")?,
    };
    let revision = RevisionRecord {
        number: Revision::new(get(row, "number")?),
        services: Services::single(service),
        domains: json(row, "domains")?,
        rollback_of: get::<Option<u32>>(row, "rollback_of")?.map(Revision::new),
        created_at: time(row, "created_at")?,
        live_at: opt_time(row, "live_at")?,
        failure: failure(row, ["failure_code", "failure_cause", "failure_fix"])?,
    };
    Ok(Joined { revision, is_public: get(row, "public")? })
}

/// The revisions of rows in the order of their numbers.
pub(super) fn gather(rows: Vec<Joined>) -> Result<Vec<RevisionRecord>> {
    let mut rows = rows.into_iter().peekable();
    let mut revisions = Vec::new();
    while let Some(first) = rows.next() {
        let revision = first.revision.clone();
        let (mut public, mut internal) = (None, Vec::new());
        let mut joined = Some(first);
        while let Some(Joined { revision: one, is_public }) = joined {
            let service = one.services.into_public();
            if is_public {
                // An index keeps it from being several.
                public = Some(service);
            } else {
                internal.push(service);
            }
            joined = rows.next_if(|next| next.revision.number == revision.number);
        }
        let none = || StoreError::corrupt("services.public")("no service is public");
        let services = Services::new(public.ok_or_else(none)?, internal);
        let services = services.map_err(StoreError::corrupt("services"))?;
        revisions.push(RevisionRecord { services, ..revision });
    }
    Ok(revisions)
}
