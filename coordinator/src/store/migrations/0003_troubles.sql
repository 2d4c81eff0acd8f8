-- What is wrong at the moment, apart from how the last deploy ended.
ALTER TABLE deployments ADD COLUMN trouble TEXT;

-- Why a host that can be reached does not have its newest document.
ALTER TABLE hosts ADD COLUMN refusal TEXT;

-- What administrators did to the platform as a whole.
CREATE TABLE admin_audit (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    action  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    details TEXT NOT NULL
) STRICT;
