//! OAuth clients, grants, codes and tokens.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use uuid::Uuid;

use super::column::{
    get, hash, json, millis, opt_hash, opt_millis, opt_parsed, opt_time, parsed, text, time,
    to_json,
};
use super::query::expired;
use super::{Row, Tx, params};
use crate::domain::identity::{HashedToken, RedirectUri, RedirectUriError};
use crate::store::contract::{Client, Code, Grant, OAuth, Result, StoreError, Token, TokenKind};

/// Milliseconds for which an expired device code is kept, so that the device learns that it
/// expired.
const KEPT_DEVICE_CODE: i64 = 60 * 60 * 1000;

/// A grant is deleted when nothing is left that is valid or may still be exchanged. Losing a code
/// or token marks it for examination; an exchanged code is deleted with it.
const FORGET_GRANTS: &str = "
    DELETE FROM oauth_grants
    WHERE id IN (SELECT grant_id FROM waning_grants ORDER BY grant_id LIMIT ?1)
        AND NOT EXISTS (SELECT 1 FROM oauth_tokens t WHERE t.grant_id = oauth_grants.id)
        AND NOT EXISTS (SELECT 1 FROM oauth_codes c
            WHERE c.grant_id = oauth_grants.id AND c.used_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM oauth_device_codes d
            WHERE d.grant_id = oauth_grants.id AND d.used_at IS NULL)";
const LOOKED_AT: &str = "
    DELETE FROM waning_grants
    WHERE grant_id IN (SELECT grant_id FROM waning_grants ORDER BY grant_id LIMIT ?1)";

impl OAuth for Tx<'_> {
    fn insert_client(&mut self, client: &Client) -> Result<()> {
        let sql = "INSERT INTO oauth_clients (id, client_id, owner_id, secret_hash, name,
                       description, logo_url, website_url, redirect_uris, scopes, is_approved,
                       created_at, device_flow)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let uris: Vec<&str> = client.redirect_uris.iter().map(RedirectUri::as_str).collect();
        let params = params![
            text(&client.id),
            client.client_id,
            client.owner.as_ref().map(text),
            client.secret.as_ref().map(HashedToken::as_bytes),
            client.name,
            client.description,
            client.logo_url,
            client.website_url,
            to_json(&uris)?,
            text(&client.scopes),
            client.is_approved,
            millis(client.created_at),
            client.device_flow,
        ];
        self.run("make an app", sql, params).map(drop)
    }

    fn client(&self, client_id: &str) -> Result<Option<Client>> {
        let sql = "SELECT * FROM oauth_clients WHERE client_id = ?1";
        self.first("look up an app", sql, [client_id], read_client)
    }

    fn clients_of(&self, owner: AccountId) -> Result<Vec<Client>> {
        let sql = "SELECT * FROM oauth_clients WHERE owner_id = ?1
                   ORDER BY created_at, id LIMIT 100";
        self.all("list apps", sql, [text(&owner)], read_client)
    }

    fn clients(&self) -> Result<Vec<Client>> {
        let sql = "SELECT * FROM oauth_clients WHERE owner_id IS NOT NULL
                   ORDER BY created_at, id LIMIT 1000";
        self.all("list apps", sql, [], read_client)
    }

    fn set_client_secret(
        &mut self,
        client_id: &str,
        secret: &HashedToken,
        old: Option<&(HashedToken, Timestamp)>,
    ) -> Result<()> {
        let sql = "UPDATE oauth_clients
                   SET secret_hash = ?2, old_secret_hash = ?3, old_secret_until = ?4
                   WHERE client_id = ?1";
        let params = params![
            client_id,
            secret.as_bytes(),
            old.map(|(hash, _)| hash.as_bytes()),
            old.map(|(_, until)| millis(*until)),
        ];
        self.run("set an app's secret", sql, params).map(drop)
    }

    fn set_redirect_uris(&mut self, client_id: &str, uris: &[RedirectUri]) -> Result<()> {
        let sql = "UPDATE oauth_clients SET redirect_uris = ?2 WHERE client_id = ?1";
        let uris: Vec<&str> = uris.iter().map(RedirectUri::as_str).collect();
        self.run("change an app", sql, params![client_id, to_json(&uris)?]).map(drop)
    }

    fn approve_client(&mut self, client_id: &str, is_approved: bool) -> Result<()> {
        let sql = "UPDATE oauth_clients SET is_approved = ?2 WHERE client_id = ?1";
        self.run("approve an app", sql, params![client_id, is_approved]).map(drop)
    }

    fn delete_client(&mut self, client_id: &str) -> Result<()> {
        let grants = "DELETE FROM oauth_grants WHERE client_id = ?1";
        self.run("end an app's consents", grants, [client_id])?;
        let sql = "DELETE FROM oauth_clients WHERE client_id = ?1";
        self.run("remove an app", sql, [client_id]).map(drop)
    }

    fn insert_grant(&mut self, grant: &Grant) -> Result<()> {
        let sql = "INSERT INTO oauth_grants
                       (id, client_id, account_id, scopes, created_at, revoked_at, seq)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT coalesce(max(seq), 0) + 1
                       FROM oauth_grants WHERE account_id = ?3))";
        let params = params![
            text(&grant.id),
            grant.client_id,
            text(&grant.account),
            text(&grant.scopes),
            millis(grant.created_at),
            opt_millis(grant.revoked_at),
        ];
        self.run("store a consent", sql, params).map(drop)
    }

    fn grant(&self, id: Uuid) -> Result<Option<Grant>> {
        let sql = "SELECT id AS grant_id, client_id, account_id, scopes AS grant_scopes,
                       created_at, revoked_at
                   FROM oauth_grants WHERE id = ?1";
        self.first("look up a consent", sql, [text(&id)], read_grant)
    }

    fn revoke_grant(&mut self, id: Uuid, at: Timestamp) -> Result<()> {
        let sql = "UPDATE oauth_grants SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
        self.run("end a consent", sql, params![text(&id), millis(at)]).map(drop)
    }

    fn insert_code(&mut self, code: &Code) -> Result<()> {
        let sql = "INSERT INTO oauth_codes
                       (hash, grant_id, redirect_uri, challenge, expires_at, used_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let params = params![
            code.hash.as_bytes(),
            text(&code.grant),
            code.redirect_uri,
            code.challenge.to_text(),
            millis(code.expires_at),
            opt_millis(code.used_at),
        ];
        self.run("store a code", sql, params).map(drop)
    }

    fn code(&self, token: &HashedToken) -> Result<Option<Code>> {
        let sql = "SELECT * FROM oauth_codes WHERE hash = ?1";
        self.first("look up a code", sql, [token.as_bytes()], |row| {
            Ok(Code {
                hash: hash(row, "hash")?,
                grant: parsed(row, "grant_id")?,
                redirect_uri: get(row, "redirect_uri")?,
                challenge: parsed(row, "challenge")?,
                expires_at: time(row, "expires_at")?,
                used_at: opt_time(row, "used_at")?,
            })
        })
    }

    fn use_code(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()> {
        let sql = "UPDATE oauth_codes SET used_at = ?2 WHERE hash = ?1";
        self.run("use a code", sql, params![hash.as_bytes(), millis(at)]).map(drop)
    }

    fn insert_token(&mut self, token: &Token) -> Result<()> {
        let sql = "INSERT INTO oauth_tokens
                       (hash, kind, grant_id, scopes, issued_at, expires_at, used_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let params = params![
            token.hash.as_bytes(),
            kind_word(token.kind),
            text(&token.grant),
            text(&token.scopes),
            millis(token.issued_at),
            millis(token.expires_at),
            opt_millis(token.used_at),
        ];
        self.run("store a token", sql, params).map(drop)
    }

    fn token(&self, token: &HashedToken) -> Result<Option<(Token, Grant)>> {
        let sql = "SELECT t.hash, t.kind, t.scopes, t.issued_at, t.expires_at, t.used_at,
                       g.id AS grant_id, g.client_id, g.account_id, g.scopes AS grant_scopes,
                       g.created_at, g.revoked_at
                   FROM oauth_tokens t JOIN oauth_grants g ON g.id = t.grant_id
                   WHERE t.hash = ?1";
        self.first("look up a token", sql, [token.as_bytes()], |row| {
            let kind: String = get(row, "kind")?;
            let token = Token {
                hash: hash(row, "hash")?,
                kind: if kind == "access" { TokenKind::Access } else { TokenKind::Refresh },
                grant: parsed(row, "grant_id")?,
                scopes: parsed(row, "scopes")?,
                issued_at: time(row, "issued_at")?,
                expires_at: time(row, "expires_at")?,
                used_at: opt_time(row, "used_at")?,
            };
            Ok((token, read_grant(row)?))
        })
    }

    fn use_token(&mut self, hash: &HashedToken, at: Timestamp) -> Result<()> {
        let sql = "UPDATE oauth_tokens SET used_at = ?2 WHERE hash = ?1";
        self.run("use a token", sql, params![hash.as_bytes(), millis(at)]).map(drop)
    }

    fn delete_token(&mut self, hash: &HashedToken) -> Result<()> {
        self.run("delete a token", "DELETE FROM oauth_tokens WHERE hash = ?1", [hash.as_bytes()])
            .map(drop)
    }

    fn purge_oauth(&mut self, now: Timestamp, most: u32) -> Result<usize> {
        let now = millis(now);
        let codes = expired!("oauth_codes", "hash", "used_at IS NULL AND ");
        let codes = self.run("delete old codes", codes, params![now, most])?;
        let devices = expired!("oauth_device_codes", "hash");
        let params = params![now - KEPT_DEVICE_CODE, most];
        let devices = self.run("delete old device codes", devices, params)?;
        let tokens = expired!("oauth_tokens", "hash");
        let tokens = self.run("delete old tokens", tokens, params![now, most])?;
        self.run("delete old consents", FORGET_GRANTS, [most])?;
        let waning = self.run("record that consents were examined", LOOKED_AT, [most])?;
        Ok(codes + devices + tokens + waning)
    }
}

fn kind_word(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Access => "access",
        TokenKind::Refresh => "refresh",
    }
}

pub(super) fn read_client(row: &Row<'_>) -> std::result::Result<Client, StoreError> {
    let uris: Vec<String> = json(row, "redirect_uris")?;
    let redirect_uris = uris.iter().map(|uri| uri.parse()).collect::<std::result::Result<_, _>>();
    let old_hash = opt_hash(row, "old_secret_hash")?;
    let old_secret = old_hash.zip(opt_time(row, "old_secret_until")?);
    Ok(Client {
        id: parsed(row, "id")?,
        client_id: get(row, "client_id")?,
        owner: opt_parsed(row, "owner_id")?,
        secret: opt_hash(row, "secret_hash")?,
        old_secret,
        name: get(row, "name")?,
        description: get(row, "description")?,
        logo_url: get(row, "logo_url")?,
        website_url: get(row, "website_url")?,
        redirect_uris: redirect_uris
            .map_err(|error: RedirectUriError| StoreError::corrupt("redirect_uris")(error))?,
        scopes: parsed(row, "scopes")?,
        is_approved: get(row, "is_approved")?,
        device_flow: get(row, "device_flow")?,
        created_at: time(row, "created_at")?,
    })
}

fn read_grant(row: &Row<'_>) -> std::result::Result<Grant, StoreError> {
    Ok(Grant {
        id: parsed(row, "grant_id")?,
        client_id: get(row, "client_id")?,
        account: parsed(row, "account_id")?,
        scopes: parsed(row, "grant_scopes")?,
        created_at: time(row, "created_at")?,
        revoked_at: opt_time(row, "revoked_at")?,
    })
}
