-- Who may deploy on which tier. Until payments are taken, a tier that is paid in money is for the
-- accounts that an administrator allows; points cost nothing but points.
ALTER TABLE tiers ADD COLUMN open_to_all INTEGER NOT NULL DEFAULT 0 CHECK (open_to_all IN (0, 1));
UPDATE tiers SET open_to_all = 1 WHERE payment_method = 'buddo_points';

CREATE TABLE tier_grants (
    tier_id    TEXT NOT NULL REFERENCES tiers (id),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (tier_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tier_grants_by_account ON tier_grants (account_id);

-- What is there already can still be restarted and rolled back.
INSERT INTO tier_grants (tier_id, account_id, granted_at)
SELECT d.tier_id, d.account_id, d.inserted_at FROM deployments d
JOIN tiers t ON t.id = d.tier_id JOIN accounts a ON a.id = d.account_id
WHERE d.status <> 'destroyed' AND t.open_to_all = 0
ON CONFLICT DO NOTHING;
