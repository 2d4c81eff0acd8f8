//! No statement uses what only one database has.

use std::path::Path;

/// Words of statements that PostgreSQL or SQLite does not have, or understands in another way, and
/// what to write instead.
const FORBIDDEN: [(&str, &str); 32] = [
    ("INSTR(", "LIKE ... ESCAPE"),
    ("SUBSTR(", "substr(column, 1, n), or a column of its own"),
    ("HEX(", "encode it before"),
    ("JSON", "a column or a view of its own: how JSON is read differs"),
    ("->", "a column or a view of its own: how JSON is read differs"),
    ("GROUP_CONCAT(", "string_agg"),
    ("TOTAL(", "sum"),
    ("IIF(", "CASE WHEN"),
    ("IFNULL(", "coalesce"),
    ("TYPEOF(", "a constraint of the schema"),
    ("RANDOM", "draw it before"),
    ("STRFTIME(", "times are integers of the caller"),
    ("DATETIME(", "times are integers of the caller"),
    ("UNIXEPOCH(", "times are integers of the caller"),
    ("NOW()", "times are integers of the caller"),
    ("CURRENT_TIMESTAMP", "times are integers of the caller"),
    ("CHANGES()", "the number that `run` returns"),
    ("LAST_INSERT_ROWID", "RETURNING"),
    ("ROWID", "a key or a column of its own"),
    ("INSERT OR ", "ON CONFLICT"),
    ("UPDATE OR ", "ON CONFLICT"),
    ("REPLACE INTO", "ON CONFLICT"),
    ("INDEXED BY", "/*index: NAME*/"),
    ("PRAGMA", "the backend"),
    ("SQLITE_", "the backend"),
    (" GLOB ", "LIKE ... ESCAPE"),
    (" ILIKE ", "LIKE on a key in lower case"),
    ("LIMIT -1", "no LIMIT"),
    (" IS ?", "IS NOT DISTINCT FROM"),
    (" IS NOT ?", "IS DISTINCT FROM"),
    (" IS NOT (", "IS DISTINCT FROM"),
    ("::", "CAST(... AS ...)"),
];

/// The string literals of a source file, without tests and without comments.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let code: Vec<&str> =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut literals = Vec::new();
    let mut rest = code.as_str();
    while let Some(begin) = rest.find('"') {
        let bytes = rest.as_bytes();
        let mut end = begin + 1;
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        literals.push(rest[begin + 1..end].to_owned());
        rest = &rest[end + 1..];
    }
    literals
}

fn is_statement(literal: &str) -> bool {
    let first = literal.split_whitespace().next().unwrap_or_default();
    // `memberships!` and `expired!` are put together of parts.
    ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&first)
        || [" WHERE ", " ORDER BY ", "SELECT "].iter().any(|word| literal.contains(word))
}

/// `max(a, b)` of several values, which PostgreSQL calls `greatest`; as an aggregate it is shared.
fn scalar(statement: &str) -> bool {
    ["max(", "min("].iter().any(|function| {
        statement.match_indices(function).any(|(at, _)| {
            let arguments = &statement[at + function.len()..];
            let mut depth = 0;
            for c in arguments.chars() {
                match c {
                    '(' => depth += 1,
                    ')' if depth == 0 => return false,
                    ')' => depth -= 1,
                    ',' if depth == 0 => return true,
                    _ => {}
                }
            }
            false
        })
    })
}

/// `name IS other`: with two columns only SQLite compares so.
fn is_between_columns(statement: &str) -> bool {
    statement.split(" IS ").skip(1).any(|after| {
        !["NULL", "NOT NULL", "DISTINCT FROM", "NOT DISTINCT FROM"]
            .iter()
            .any(|known| after.trim_start().starts_with(known))
    })
}

/// A derived table without a name, which PostgreSQL has known only since version 16.
fn has_unnamed_table(statement: &str) -> bool {
    let from = ["FROM (SELECT", "JOIN (SELECT"];
    from.iter().any(|from| {
        statement.match_indices(from).any(|(at, found)| {
            let open = at + found.len() - "(SELECT".len();
            let mut depth = 0;
            let end = statement[open..].find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            end.is_none_or(|end| !statement[open + end + 1..].trim_start().starts_with("AS "))
        })
    })
}

fn complaints(statement: &str) -> Vec<String> {
    let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    let upper = statement.to_uppercase();
    let mut found: Vec<String> = FORBIDDEN
        .iter()
        .filter(|(word, _)| match *word {
            "SUBSTR(" => upper
                .match_indices("SUBSTR(")
                .any(|(at, _)| !upper[at..].split(')').next().unwrap().contains(", 1, ")),
            word => upper.contains(word),
        })
        .map(|(word, instead)| format!("{word}: {instead}"))
        .collect();
    if scalar(&statement) {
        found.push("max(a, b): CASE WHEN".to_owned());
    }
    if is_between_columns(&statement) {
        found.push("a IS b: IS NOT DISTINCT FROM".to_owned());
    }
    if has_unnamed_table(&statement) {
        found.push("FROM (SELECT ...): AS name".to_owned());
    }
    found
}

#[test]
fn statements_use_what_all_databases_have() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sql");
    let (mut statements, mut found) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "portable.rs" {
            continue;
        }
        for literal in literals(&std::fs::read_to_string(&path).unwrap()) {
            if is_statement(&literal) {
                statements += 1;
                found.extend(complaints(&literal).iter().map(|what| format!("{name}: {what}")));
            }
        }
    }
    assert!(statements > 200, "only {statements} statements were found");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_one_database_lacks_is_noticed() {
    for statement in [
        "UPDATE logins SET last_used_at = max(last_used_at, ?2) WHERE id = ?1",
        "SELECT * FROM accounts WHERE instr(email_key, ?3) > 0",
        "SELECT substr(env, -4) FROM revisions",
        "SELECT * FROM deployments WHERE team_id IN (SELECT value FROM json_each(?1))",
        "SELECT group_concat(g.scopes, ' ') FROM oauth_grants g",
        "INSERT OR REPLACE INTO host_loads VALUES (?1)",
        "DELETE FROM oauth_grants WHERE rowid = ?1",
        "SELECT * FROM deployments INDEXED BY deployments_account",
        "SELECT serving IS revision AS serves FROM deployments",
        "DELETE FROM oauth_grants WHERE account_id IS NOT ?2",
        "SELECT seq FROM (SELECT seq FROM audit) ORDER BY seq",
        "SELECT status ->> '$.lacks' FROM hosts",
        "SELECT value::bigint FROM meta",
    ] {
        assert!(!complaints(statement).is_empty(), "{statement}");
    }
    for statement in [
        "SELECT max(number) AS number FROM revisions WHERE deployment_id = ?1",
        "SELECT coalesce(max(seq), 0) AS seq FROM admin_audit WHERE at IS NOT NULL",
        "SELECT 1 FROM accounts WHERE substr(totp_secret, 1, 12) < ?1 AND ?2 IS NULL",
        "SELECT seq FROM (SELECT seq FROM audit WHERE (a) = (b)) AS newest ORDER BY seq",
    ] {
        assert!(complaints(statement).is_empty(), "{statement}: {:?}", complaints(statement));
    }
}
