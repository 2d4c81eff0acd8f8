-- What administrators bound of a host, and when it was cut off for saying more than it may.

-- MiB of memory that it may claim at most; null: as much as it says.
ALTER TABLE hosts ADD COLUMN max_memory_mb INTEGER CHECK (max_memory_mb > 0);
ALTER TABLE join_tokens ADD COLUMN max_memory_mb INTEGER CHECK (max_memory_mb > 0);
ALTER TABLE hosts ADD COLUMN flooded_at INTEGER;
