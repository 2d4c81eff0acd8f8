-- How often what serves went down lately, as its host says.
ALTER TABLE deployments ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0 CHECK (restarts >= 0);
