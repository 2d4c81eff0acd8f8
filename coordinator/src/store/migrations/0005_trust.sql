-- The key that a host joined with (SubjectPublicKeyInfo), and which certificate it was given last.
ALTER TABLE hosts ADD COLUMN host_key BLOB;
ALTER TABLE hosts ADD COLUMN certificate_number INTEGER NOT NULL DEFAULT 0;
-- SHA-256 of the authority that made it, hex.
ALTER TABLE hosts ADD COLUMN certificate_ca TEXT;
ALTER TABLE hosts ADD COLUMN certificate_expires_at INTEGER;
-- The last renewal's request and its answer, which the same request gets again.
ALTER TABLE hosts ADD COLUMN renewal TEXT;
ALTER TABLE hosts ADD COLUMN renewed TEXT;
-- Whom the host trusts, as of the document that it acknowledged last; JSON.
ALTER TABLE hosts ADD COLUMN trusts TEXT;
-- Since when there are two of it, so that neither is served.
ALTER TABLE hosts ADD COLUMN locked_at INTEGER;
ALTER TABLE hosts ADD COLUMN removed_at INTEGER;

-- The id of the key that signed it, and whom it names to trust; JSON.
ALTER TABLE documents ADD COLUMN signer TEXT;
ALTER TABLE documents ADD COLUMN trust TEXT;
