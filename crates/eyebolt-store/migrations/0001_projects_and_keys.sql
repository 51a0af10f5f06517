-- A customer of the operator.
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at {int} NOT NULL
) {strict};
CREATE UNIQUE INDEX projects_by_name ON projects (name);

-- What a client shows. The secret itself is nowhere: only its keyed hash.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    hash {blob} NOT NULL,
    hint TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int},
    revoked_at {int},
    last_used_at {int},
    rotated_from TEXT
) {strict};
CREATE UNIQUE INDEX api_keys_by_hash ON api_keys (hash);
CREATE INDEX api_keys_by_project ON api_keys (project_id, id);
