-- Double entry: each transfer has two rows whose units add up to nothing. Rows are never changed. That a job's
-- transfer of one kind is there once is what keeps a retry from charging twice.
CREATE TABLE ledger_entries (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    units {int} NOT NULL,
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    key_id TEXT,
    created_at {int} NOT NULL,
    PRIMARY KEY (job_id, kind, account)
) {strict};
CREATE INDEX ledger_entries_by_project ON ledger_entries (project_id, mode, created_at);
