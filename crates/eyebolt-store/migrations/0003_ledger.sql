-- Double entry: each transfer takes units from one account and gives them to another. Rows are never changed. That a
-- job's transfer of one name is there once is what keeps a retry from charging twice: `reserve/1`, `use/0`,
-- `release/1`, with the round of a job or the position of a step.
CREATE TABLE ledger_transfers (
    job_id TEXT NOT NULL REFERENCES jobs (id),
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
CREATE INDEX ledger_transfers_by_project ON ledger_transfers (project_id, mode, created_at);

-- What was answered without a price: replays of a stored answer. Counted by day, since they carry no money.
CREATE TABLE replays (
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    key_id TEXT NOT NULL,
    day {int} NOT NULL,
    count {int} NOT NULL,
    PRIMARY KEY (project_id, mode, key_id, day)
) {strict};
