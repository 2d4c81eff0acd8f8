-- What must survive the agent, of each workload (`DEPLOYMENT/SERVICE/REPLICA`); JSON of
-- persisted::Persisted. What the agent knew by deployment is not carried over: a database that has
-- any of it is refused before this, because the containers that it is about have other names.
DROP TABLE deployments;
CREATE TABLE workloads (
    id    TEXT PRIMARY KEY,
    state TEXT NOT NULL
) STRICT;
