-- One accepted intent. The lease is of the job: its image is decoded once, so one worker runs all its steps.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    key_id TEXT,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    input TEXT NOT NULL,
    error TEXT,
    crashes {int} NOT NULL DEFAULT 0,
    not_before {int} NOT NULL,
    deadline_at {int} NOT NULL,
    lease_owner TEXT,
    lease_token {int} NOT NULL DEFAULT 0,
    lease_until {int},
    cancel_requested_at {int},
    created_at {int} NOT NULL,
    started_at {int},
    finished_at {int}
) {strict};
CREATE INDEX jobs_by_project ON jobs (project_id, mode, id);
CREATE INDEX jobs_pending ON jobs (not_before, id) WHERE status = 'pending';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE status = 'processing';

-- A finished step never changes.
CREATE TABLE steps (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    position {int} NOT NULL,
    id TEXT NOT NULL,
    feature TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts {int} NOT NULL DEFAULT 0,
    model TEXT,
    result {blob},
    error TEXT,
    started_at {int},
    finished_at {int},
    PRIMARY KEY (job_id, position)
) {strict};

-- What a key stands for. `expires_at` is set when the job ends; until then the record can't expire.
CREATE TABLE idempotency_records (
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    key_hash {blob} NOT NULL,
    fingerprint {blob} NOT NULL,
    job_id TEXT NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int},
    answer_status {int},
    answer_headers TEXT,
    answer_body {blob},
    PRIMARY KEY (project_id, mode, key_hash)
) {strict};
CREATE UNIQUE INDEX idempotency_records_by_job ON idempotency_records (job_id);
CREATE INDEX idempotency_records_expiring ON idempotency_records (expires_at) WHERE expires_at IS NOT NULL;
