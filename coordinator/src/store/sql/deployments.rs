//! Deployments.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{AccountId, AppId, DeploymentId, HostId, Revision, TeamId};
use buddo_shared::model::name::{HostName, Subdomain};
use jiff::Timestamp;

use super::column::{
    FailureColumns, failure, get, millis, opt_millis, opt_parsed, opt_time, parsed, text, time,
    to_word, word,
};
use super::hosts::unsigned;
use super::params::list;
use super::tiers::limits;
use super::value::ToValue;
use super::{Row, Tx, named_params, params};
use crate::domain::deployment::{Deployment, Outline};
use crate::domain::failure::Failure;
use crate::domain::lifecycle::Lifecycle;
use crate::store::contract::{Count, Counts, DeploymentRow, Deployments, Page, Result, StoreError};

const FAILURE: FailureColumns = ["failure_code", "failure_cause", "failure_fix"];
const TROUBLE: FailureColumns = ["trouble_code", "trouble_cause", "trouble_fix"];
const HELD: FailureColumns = ["held_code", "held_cause", "held_fix"];

const INSERT: &str = "
    INSERT INTO deployments (id, app_id, account_id, team_id, tier_id, host_id, subdomain, custom_domain,
        status, run, revision, serving, container_name, health, last_health_check,
        memory_limit_mb, cpu_limit_millicores, pids_limit, billing_status, deployed_at, stopped_at,
        inserted_at)
    VALUES (:id, :app_id, :account_id, :team_id, :tier_id, :host_id, :subdomain, :custom_domain,
        :status, :run, :revision, :serving, :container_name, :health, :last_health_check, :memory,
        :cpu, :pids, :billing_status, :deployed_at, :stopped_at, :inserted_at)";

const UPDATE: &str = "
    UPDATE deployments SET status = :status, run = :run, revision = :revision, serving = :serving,
        container_name = :container_name, health = :health,
        last_health_check = :last_health_check, failure_code = :failure_code,
        failure_cause = :failure_cause, failure_fix = :failure_fix, trouble_code = :trouble_code,
        trouble_cause = :trouble_cause, trouble_fix = :trouble_fix, restarts = :restarts,
        held_code = CASE WHEN :status <> 'destroyed' THEN held_code END,
        held_cause = CASE WHEN :status <> 'destroyed' THEN held_cause END,
        held_fix = CASE WHEN :status <> 'destroyed' THEN held_fix END,
        billing_status = :billing_status, deployed_at = :deployed_at, stopped_at = :stopped_at
    WHERE id = :id";

// By column, since each may be damaged.
const OUTLINE: &str = "
    SELECT id, host_id, account_id, subdomain, status, run, serving IS NOT DISTINCT FROM revision AS serves
    FROM deployments WHERE id = ?1";

const OUTLINES_OF_ACCOUNT: &str = "
    SELECT id, host_id, account_id, subdomain, status, run, serving IS NOT DISTINCT FROM revision AS serves
    FROM deployments WHERE account_id = ?1 AND status <> 'destroyed' ORDER BY seq DESC";

const SET_RUN: &str = "
    UPDATE deployments SET status = ?2, run = ?3, health = NULL, stopped_at = ?4 WHERE id = ?1";

const SET_DESTROYED: &str = "
    UPDATE deployments SET status = ?3, health = NULL, serving = NULL, trouble_code = NULL,
        trouble_cause = NULL, trouble_fix = NULL, held_code = NULL, held_cause = NULL,
        held_fix = NULL, restarts = 0, stopped_at = coalesce(stopped_at, ?2)
    WHERE id = ?1";

fn list_of_teams(teams: &str) -> String {
    format!(
        "SELECT * FROM deployments
         WHERE team_id IN ({teams}) AND status <> 'destroyed'
             AND (?1 IS NULL OR seq < (SELECT seq FROM deployments WHERE id = ?1))
         ORDER BY seq DESC LIMIT ?2"
    )
}

const ON_HOST: &str = "
    SELECT * FROM deployments WHERE host_id = ?1 AND status <> 'destroyed' ORDER BY seq";

// Uses the index without destroyed ones; the planner prefers the one that has them all. Same
// condition as `Deployment::failed_at_first`.
const COUNT: &str = "
    SELECT count(*) AS account, count(*) FILTER (WHERE failed) AS account_failed,
        count(*) FILTER (WHERE here) AS tier,
        count(*) FILTER (WHERE here AND failed) AS tier_failed
    FROM (SELECT tier_id = ?2 AS here, status = 'stopped' AND deployed_at IS NULL
              AND failure_code IS NOT NULL AS failed
          FROM deployments /*index: deployments_account*/
          WHERE account_id = ?1 AND status <> 'destroyed') AS counted";

const ENV_BYTES: &str = "
    SELECT d.host_id, coalesce(sum(length(s.env)), 0) AS bytes
    FROM deployments d /*index: deployments_account*/
    JOIN services s ON s.deployment_id = d.id AND s.revision = d.revision
    WHERE d.account_id = ?1 AND d.status <> 'destroyed' GROUP BY d.host_id";

impl Deployments for Tx<'_> {
    fn insert_deployment(&mut self, deployment: &Deployment) -> Result<()> {
        let d = deployment;
        self.run(
            "store a deployment",
            INSERT,
            named_params! {
                ":id": text(&d.id),
                ":app_id": text(&d.app_id),
                ":account_id": text(&d.account),
                ":team_id": d.team.as_ref().map(text),
                ":tier_id": d.tier_id,
                ":host_id": text(&d.host),
                ":subdomain": d.subdomain.as_str(),
                ":custom_domain": d.custom_domain.as_ref().map(HostName::as_str),
                ":status": d.status().as_str(),
                ":run": to_word(&d.run)?,
                ":revision": d.revision.get(),
                ":serving": d.serving.map(Revision::get),
                ":container_name": d.container_name,
                ":health": d.health.as_ref().map(to_word).transpose()?,
                ":last_health_check": opt_millis(d.last_health_check),
                ":memory": d.limits.memory_mb,
                ":cpu": d.limits.cpu_millicores,
                ":pids": d.limits.pids,
                ":billing_status": d.billing_status,
                ":deployed_at": opt_millis(d.deployed_at),
                ":stopped_at": opt_millis(d.stopped_at),
                ":inserted_at": millis(d.inserted_at),
            },
        )
        .map(drop)
    }

    fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>> {
        let sql = "SELECT * FROM deployments WHERE id = ?1";
        self.first("read a deployment", sql, [text(&id)], read)
    }

    fn update_deployment(&mut self, deployment: &Deployment) -> Result<()> {
        let d = deployment;
        self.run(
            "change a deployment",
            UPDATE,
            named_params! {
                ":id": text(&d.id),
                ":status": d.status().as_str(),
                ":run": to_word(&d.run)?,
                ":revision": d.revision.get(),
                ":serving": d.serving.map(Revision::get),
                ":container_name": d.container_name,
                ":health": d.health.as_ref().map(to_word).transpose()?,
                ":last_health_check": opt_millis(d.last_health_check),
                ":failure_code": d.failure.as_ref().map(|failure| &failure.code),
                ":failure_cause": d.failure.as_ref().map(|failure| &failure.cause),
                ":failure_fix": d.failure.as_ref().map(|failure| &failure.fix),
                ":trouble_code": d.trouble.as_ref().map(|trouble| &trouble.code),
                ":trouble_cause": d.trouble.as_ref().map(|trouble| &trouble.cause),
                ":trouble_fix": d.trouble.as_ref().map(|trouble| &trouble.fix),
                ":restarts": d.restarts,
                ":billing_status": d.billing_status,
                ":deployed_at": opt_millis(d.deployed_at),
                ":stopped_at": opt_millis(d.stopped_at),
            },
        )?;
        Ok(())
    }

    fn outline(&self, id: DeploymentId) -> Result<Option<Outline>> {
        self.first("read a deployment", OUTLINE, [text(&id)], read_outline)
    }

    fn outlines_of(&self, account: AccountId) -> Result<Vec<Result<Outline>>> {
        let each = |row: &Row<'_>| Ok(read_outline(row));
        self.all("list deployments", OUTLINES_OF_ACCOUNT, [text(&account)], each)
    }

    fn set_run(
        &mut self,
        id: DeploymentId,
        lifecycle: Lifecycle,
        run: RunState,
        stopped_at: Option<Timestamp>,
    ) -> Result<()> {
        let status = lifecycle.status().as_str();
        let params = params![text(&id), status, to_word(&run)?, opt_millis(stopped_at)];
        self.run("change a deployment", SET_RUN, params).map(drop)
    }

    fn set_destroyed(
        &mut self,
        id: DeploymentId,
        lifecycle: Lifecycle,
        at: Timestamp,
    ) -> Result<()> {
        let params = params![text(&id), millis(at), lifecycle.status().as_str()];
        self.run("change a deployment", SET_DESTROYED, params).map(drop)
    }

    fn deployments_in(&self, teams: &[TeamId], page: Page) -> Result<Vec<Deployment>> {
        let (after, limit) = (page.after.as_ref().map(text), page.limit);
        let (marks, teams) = list(3, teams.iter().map(text).collect());
        let mut params = vec![&after as &dyn ToValue, &limit];
        params.extend(teams.iter().map(|team| team as &dyn ToValue));
        self.all("list deployments", &list_of_teams(&marks), &params[..], read)
    }

    fn deployments_for(&self, host: HostId) -> Result<Vec<DeploymentRow>> {
        let each = |row: &Row<'_>| Ok((parsed(row, "id").ok(), read(row)));
        self.all("list a host's deployments", ON_HOST, [text(&host)], each)
    }

    fn set_held(&mut self, host: HostId, held: &[(DeploymentId, Failure)]) -> Result<()> {
        let operation = "record which deployments are held";
        let sql = "UPDATE deployments SET held_code = NULL, held_cause = NULL, held_fix = NULL
                   WHERE host_id = ?1 AND held_code IS NOT NULL";
        self.run(operation, sql, [text(&host)])?;
        for (id, why) in held {
            // It may have been moved or destroyed since the document was started.
            let sql = "UPDATE deployments SET held_code = ?2, held_cause = ?3, held_fix = ?4
                       WHERE id = ?1 AND host_id = ?5 AND status <> 'destroyed'";
            let params = params![text(id), why.code, why.cause, why.fix, text(&host)];
            self.run(operation, sql, params)?;
        }
        Ok(())
    }

    fn set_host(&mut self, id: DeploymentId, host: HostId) -> Result<()> {
        let sql = "UPDATE deployments
                   SET host_id = ?2, held_code = NULL, held_cause = NULL, held_fix = NULL
                   WHERE id = ?1";
        self.run("move a deployment", sql, params![text(&id), text(&host)]).map(drop)
    }

    fn deployment_named(&self, subdomain: &Subdomain) -> Result<Option<DeploymentId>> {
        let sql = "SELECT id FROM deployments WHERE subdomain = ?1 AND status <> 'destroyed'";
        self.first("look up a deployment", sql, [subdomain.as_str()], |row| parsed(row, "id"))
    }

    fn subdomain_taken(&self, subdomain: &Subdomain) -> Result<bool> {
        let sql = "SELECT 1 FROM deployments WHERE subdomain = ?1 AND status <> 'destroyed'";
        let row = self.first("look up a subdomain", sql, [subdomain.as_str()], |_| Ok(()))?;
        Ok(row.is_some())
    }

    fn custom_domain_taken(&self, domain: &HostName) -> Result<bool> {
        let sql = "SELECT 1 FROM deployments WHERE custom_domain = ?1 AND status <> 'destroyed'";
        let row = self.first("look up a domain", sql, [domain.as_str()], |_| Ok(()))?;
        Ok(row.is_some())
    }

    fn count_deployments(&self, account: AccountId, tier_id: &str) -> Result<Counts> {
        let read = |row: &Row<'_>| {
            let count = |there, failed| {
                Ok::<_, StoreError>(Count { there: get(row, there)?, failed: get(row, failed)? })
            };
            let in_all = count("account", "account_failed")?;
            Ok(Counts { in_all, on_tier: count("tier", "tier_failed")? })
        };
        let counts =
            self.first("count deployments", COUNT, params![text(&account), tier_id], read)?;
        Ok(counts.unwrap_or_default())
    }

    fn env_bytes_of(&self, account: AccountId) -> Result<Vec<(HostId, u64)>> {
        self.all("sum up an account's environments", ENV_BYTES, [text(&account)], |row| {
            Ok((parsed(row, "host_id")?, unsigned(get(row, "bytes")?)))
        })
    }

    fn app_of(&self, account: AccountId, subdomain: &Subdomain) -> Result<Option<AppId>> {
        let sql = "SELECT app_id FROM deployments WHERE account_id = ?1 AND subdomain = ?2 LIMIT 1";
        let params = params![text(&account), subdomain.as_str()];
        self.first("look up an app", sql, params, |row| parsed(row, "app_id"))
    }
}

fn read_outline(row: &Row<'_>) -> Result<Outline> {
    Ok(Outline {
        id: parsed(row, "id")?,
        host: parsed(row, "host_id")?,
        lifecycle: Lifecycle::stored(parsed(row, "status")?),
        run: word(row, "run").ok(),
        account: parsed(row, "account_id").ok(),
        subdomain: parsed(row, "subdomain").ok(),
        serves: get(row, "serves")?,
    })
}

fn read(row: &Row<'_>) -> Result<Deployment> {
    Ok(Deployment {
        id: parsed(row, "id")?,
        app_id: parsed(row, "app_id")?,
        account: parsed(row, "account_id")?,
        team: opt_parsed(row, "team_id")?,
        tier_id: get(row, "tier_id")?,
        host: parsed(row, "host_id")?,
        subdomain: parsed(row, "subdomain")?,
        custom_domain: opt_parsed(row, "custom_domain")?,
        lifecycle: Lifecycle::stored(parsed(row, "status")?),
        run: word(row, "run")?,
        revision: Revision::new(get(row, "revision")?),
        serving: get::<Option<u32>>(row, "serving")?.map(Revision::new),
        container_name: get(row, "container_name")?,
        health: match get::<Option<String>>(row, "health")? {
            Some(_) => Some(word(row, "health")?),
            None => None,
        },
        last_health_check: opt_time(row, "last_health_check")?,
        failure: failure(row, FAILURE)?,
        trouble: failure(row, TROUBLE)?,
        held: failure(row, HELD)?,
        restarts: get(row, "restarts")?,
        limits: limits(row)?,
        billing_status: get(row, "billing_status")?,
        deployed_at: opt_time(row, "deployed_at")?,
        stopped_at: opt_time(row, "stopped_at")?,
        inserted_at: time(row, "inserted_at")?,
    })
}
