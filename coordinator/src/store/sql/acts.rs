//! The audit log of OAuth.

use super::column::{get, json, millis, text, time, to_json};
use super::{Tx, audit_chain, params};
use crate::store::contract::{Acts, NewOAuthAct, OAuthActRow, Result};

impl Acts for Tx<'_> {
    fn insert_act(&mut self, act: &NewOAuthAct) -> Result<()> {
        let sql = "INSERT INTO oauth_audit (action, client_id, account_id, actor, at, details)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING seq";
        let params = params![
            act.act.as_str(),
            act.client_id,
            act.account.as_ref().map(text),
            act.actor.as_ref().map(text),
            millis(act.at),
            act.details.as_ref().map(to_json).transpose()?,
        ];
        let seq = self.only("add to the audit log", sql, params, |row| get(row, "seq"))?;
        self.link(&audit_chain::OAUTH, seq, act.at)
    }

    fn acts_of(&self, client_id: &str, limit: u32) -> Result<Vec<OAuthActRow>> {
        let sql = "SELECT * FROM (SELECT * FROM oauth_audit WHERE client_id = ?1
                       ORDER BY seq DESC LIMIT ?2) AS newest
                   ORDER BY seq";
        self.all("read the audit log", sql, params![client_id, limit], |row| {
            Ok(OAuthActRow {
                action: get(row, "action")?,
                client_id: get(row, "client_id")?,
                account: get(row, "account_id")?,
                actor: get(row, "actor")?,
                at: time(row, "at")?,
                details: match get::<Option<String>>(row, "details")? {
                    Some(_) => Some(json(row, "details")?),
                    None => None,
                },
            })
        })
    }
}
