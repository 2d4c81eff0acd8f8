-- Failures in their parts: a stable word for programs, what is wrong, what to do. They were two lines
-- of one text, of which nothing could tell one from another.
ALTER TABLE deployments ADD COLUMN failure_code TEXT;
ALTER TABLE deployments ADD COLUMN failure_cause TEXT;
ALTER TABLE deployments ADD COLUMN failure_fix TEXT;
ALTER TABLE deployments ADD COLUMN trouble_code TEXT;
ALTER TABLE deployments ADD COLUMN trouble_cause TEXT;
ALTER TABLE deployments ADD COLUMN trouble_fix TEXT;
ALTER TABLE deployments ADD COLUMN held_code TEXT;
ALTER TABLE deployments ADD COLUMN held_cause TEXT;
ALTER TABLE deployments ADD COLUMN held_fix TEXT;
ALTER TABLE revisions ADD COLUMN failure_code TEXT;
ALTER TABLE revisions ADD COLUMN failure_cause TEXT;
ALTER TABLE revisions ADD COLUMN failure_fix TEXT;

UPDATE deployments SET failure_code = 'unknown',
    failure_cause = substr(last_error, 1, instr(last_error || char(10), char(10)) - 1),
    failure_fix = coalesce(nullif(replace(substr(last_error,
        instr(last_error || char(10), char(10)) + 1), char(10), ' '), ''), 'see its audit log')
WHERE last_error <> '';
UPDATE deployments SET trouble_code = 'unknown',
    trouble_cause = substr(trouble, 1, instr(trouble || char(10), char(10)) - 1),
    trouble_fix = coalesce(nullif(replace(substr(trouble,
        instr(trouble || char(10), char(10)) + 1), char(10), ' '), ''), 'see its audit log')
WHERE trouble <> '';
UPDATE deployments SET held_code = 'unknown',
    held_cause = substr(held, 1, instr(held || char(10), char(10)) - 1),
    held_fix = coalesce(nullif(replace(substr(held,
        instr(held || char(10), char(10)) + 1), char(10), ' '), ''), 'see its audit log')
WHERE held <> '';
UPDATE revisions SET failure_code = 'unknown',
    failure_cause = substr(failure, 1, instr(failure || char(10), char(10)) - 1),
    failure_fix = coalesce(nullif(replace(substr(failure,
        instr(failure || char(10), char(10)) + 1), char(10), ' '), ''), 'see its audit log')
WHERE failure <> '';

ALTER TABLE deployments DROP COLUMN last_error;
ALTER TABLE deployments DROP COLUMN trouble;
ALTER TABLE deployments DROP COLUMN held;
ALTER TABLE revisions DROP COLUMN failure;

-- Kept answers were bodies of one API; they are results that each API words for itself.
DELETE FROM idempotency;
ALTER TABLE idempotency RENAME COLUMN answer TO result;
