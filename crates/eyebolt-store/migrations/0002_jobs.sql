-- The bytes of an image, once for each content of a project and mode. Small ones are here; larger ones are blobs named
-- by project, mode and digest.
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    sha256 {blob} NOT NULL,
    bytes {int} NOT NULL,
    content {blob},
    created_at {int} NOT NULL
) {strict};
CREATE UNIQUE INDEX images_by_content ON images (project_id, mode, sha256);

-- One accepted intent. The lease is of the job: its image is decoded once, so one worker runs all its steps.
-- `document` is what readers of an ended job get (a large one is a blob, named by `document_digest`); `answer_body` is
-- what a retry gets where that is something else.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    key_id TEXT,
    request_id TEXT NOT NULL,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    input TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images (id),
    dedup TEXT NOT NULL,
    error TEXT,
    crashes {int} NOT NULL DEFAULT 0,
    round {int} NOT NULL DEFAULT 1,
    not_before {int} NOT NULL,
    deadline_at {int} NOT NULL,
    lease_owner TEXT,
    lease_token {int} NOT NULL DEFAULT 0,
    lease_until {int},
    cancel_requested_at {int},
    created_at {int} NOT NULL,
    started_at {int},
    finished_at {int},
    retryable_until {int},
    document {blob},
    document_digest TEXT,
    answer_status {int},
    answer_body {blob}
) {strict};
CREATE INDEX jobs_by_project ON jobs (project_id, mode, id);
CREATE INDEX jobs_pending ON jobs (not_before, id) WHERE status = 'pending';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE status = 'processing';

-- A finished step never changes. `model` is the snapshot that was resolved at acceptance. The result is here while the
-- job runs or may be retried; of a job that succeeded it is in the document.
CREATE TABLE steps (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    position {int} NOT NULL,
    id TEXT NOT NULL,
    feature TEXT NOT NULL,
    model TEXT,
    status TEXT NOT NULL,
    attempts {int} NOT NULL DEFAULT 0,
    result {blob},
    error TEXT,
    started_at {int},
    finished_at {int},
    PRIMARY KEY (job_id, position)
) {strict};

-- What a key stands for. `expires_at` is set when the job ends; until then the record can't expire. After it the row
-- stays as a tombstone for a time, so that a late retry is told apart from a new request.
CREATE TABLE idempotency_records (
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    key_hash {blob} NOT NULL,
    fingerprint {blob} NOT NULL,
    job_id TEXT NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int},
    PRIMARY KEY (project_id, mode, key_hash)
) {strict};
CREATE UNIQUE INDEX idempotency_records_by_job ON idempotency_records (job_id);
CREATE INDEX idempotency_records_expiring ON idempotency_records (expires_at) WHERE expires_at IS NOT NULL;
