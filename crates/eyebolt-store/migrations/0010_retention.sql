-- Jobs are removed some time after their end; what they cost stays for ever. So the ledger may name jobs that are gone.
CREATE TABLE ledger_transfers_kept (
    job_id TEXT NOT NULL,
    transfer TEXT NOT NULL,
    from_account TEXT NOT NULL,
    to_account TEXT NOT NULL,
    units {int} NOT NULL CHECK (units >= 0),
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    key_id TEXT,
    feature TEXT,
    model TEXT,
    created_at {int} NOT NULL,
    PRIMARY KEY (job_id, transfer)
) {strict};
INSERT INTO ledger_transfers_kept (job_id, transfer, from_account, to_account, units, project_id, mode, key_id, feature,
    model, created_at)
    SELECT job_id, transfer, from_account, to_account, units, project_id, mode, key_id, feature, model, created_at
    FROM ledger_transfers;
DROP TABLE ledger_transfers;
ALTER TABLE ledger_transfers_kept RENAME TO ledger_transfers;
CREATE INDEX ledger_transfers_by_project ON ledger_transfers (project_id, mode, created_at);

-- Up to when things were removed for their age: a job of the ledger that is gone and is younger was lost.
CREATE TABLE removals (
    what TEXT PRIMARY KEY,
    ended_before {int} NOT NULL
) {strict};
CREATE INDEX jobs_ended ON jobs (finished_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_by_image ON jobs (image_id, id);

-- An image whose bytes were removed stays as a row for as long as jobs name it. The same content sent again is another
-- image.
ALTER TABLE images ADD COLUMN removed_at {int};
DROP INDEX images_by_content;
CREATE UNIQUE INDEX images_by_content ON images (project_id, mode, sha256) WHERE removed_at IS NULL;
CREATE INDEX images_by_age ON images (created_at, id) WHERE removed_at IS NULL;

-- SHA-256 of the body that a key came with, its form and its query, where the client declared the body's: the same again
-- needs not be read. A tombstone has an empty fingerprint: it is found apart, so that no sweep passes it over again.
ALTER TABLE idempotency_records ADD COLUMN body_digest {blob};
DROP INDEX idempotency_records_expiring;
CREATE INDEX idempotency_records_expiring ON idempotency_records (expires_at)
    WHERE expires_at IS NOT NULL AND length(fingerprint) > 0;
CREATE INDEX idempotency_records_tombstones ON idempotency_records (expires_at)
    WHERE expires_at IS NOT NULL AND length(fingerprint) = 0;
