//! What the columns of the schema hold.

use super::migrate;

/// A new column of bytes must be classified: what must be read again is encrypted and listed
/// in `sql/sealed.rs`, what is only compared is a hash.
#[test]
fn every_blob_column_is_classified() {
    let directory = tempfile::tempdir().unwrap();
    let connection = migrate::open(&directory.path().join("a.db")).unwrap();
    let sql = "SELECT s.name || '.' || c.name FROM sqlite_schema s, pragma_table_info(s.name) c
               WHERE s.type = 'table' AND c.type = 'BLOB' ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    let found: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let encrypted = ["accounts.totp_secret", "services.env"];
    let hashes = [
        "api_keys.hash",
        "audit_anchor.hash",
        "audit_chain.hash",
        "audit_head.hash",
        "browser_sessions.hash",
        "email_tokens.hash",
        "idempotency.body_hash",
        "invitations.hash",
        "join_tokens.hash",
        "mailed_links.hash",
        "oauth_clients.old_secret_hash",
        "oauth_clients.secret_hash",
        "oauth_codes.hash",
        "oauth_device_codes.hash",
        "oauth_device_codes.user_hash",
        "oauth_tokens.hash",
        "recovery_codes.hash",
        "web_sessions.hash",
    ];
    // A signed document, whose secrets are sealed to its host, and a public key.
    let open = ["documents.envelope", "hosts.host_key"];
    let mut known = [&encrypted[..], &hashes, &open].concat();
    known.sort_unstable();
    assert_eq!(found, known);
}
