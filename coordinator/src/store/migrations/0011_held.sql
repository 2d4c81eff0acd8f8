-- Why a deployment stays in its host's document as it was: what is stored of it cannot be read.
ALTER TABLE deployments ADD COLUMN held TEXT;
