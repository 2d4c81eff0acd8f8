-- What a revision means stands on the revision, with what became of it. Of its content nothing
-- changes but the digest, once.
ALTER TABLE revisions ADD COLUMN domains TEXT NOT NULL DEFAULT '[]';
-- The revision whose content it took over, where a rollback made it.
ALTER TABLE revisions ADD COLUMN rollback_of INTEGER;
-- When its host first said that it answers visitors.
ALTER TABLE revisions ADD COLUMN live_at INTEGER;
-- Why its host gave it up.
ALTER TABLE revisions ADD COLUMN failure TEXT;

UPDATE revisions SET domains = (
    SELECT json_array(custom_domain) FROM deployments
    WHERE id = deployment_id AND custom_domain IS NOT NULL
) WHERE deployment_id IN (SELECT id FROM deployments WHERE custom_domain IS NOT NULL);

-- Of earlier revisions it is not known whether they ever were live.
UPDATE revisions SET live_at = (SELECT deployed_at FROM deployments WHERE id = deployment_id)
WHERE EXISTS (SELECT 1 FROM deployments d WHERE d.id = deployment_id AND d.serving = number);
