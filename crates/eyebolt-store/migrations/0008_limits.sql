-- What a key has beside its project's limits, as JSON; NULL: nothing.
ALTER TABLE api_keys ADD COLUMN limits TEXT;

-- Units that were reserved in a month, of projects and keys (`holder`) that have a limit for it; without those that were given
-- back. A row is made from the ledger where it is missing, so that it may be dropped whenever it is in doubt.
CREATE TABLE monthly_units (
    holder TEXT NOT NULL,
    mode TEXT NOT NULL,
    begins_at {int} NOT NULL,
    ends_at {int} NOT NULL,
    units {int} NOT NULL,
    PRIMARY KEY (holder, mode, begins_at)
) {strict};

-- Units that were given back and are still in a row of `monthly_units`: the next acceptance takes them out. Jobs that end write
-- here, so that they never wait for each other's rows.
CREATE TABLE monthly_releases (
    holder TEXT NOT NULL,
    mode TEXT NOT NULL,
    begins_at {int} NOT NULL,
    job_id TEXT NOT NULL,
    transfer TEXT NOT NULL,
    units {int} NOT NULL,
    folded {int} NOT NULL,
    PRIMARY KEY (holder, mode, job_id, transfer)
) {strict};

-- Jobs that are about to be inserted under a limit of jobs at once. Empty between transactions.
CREATE TABLE job_claims (
    holder TEXT NOT NULL,
    mode TEXT NOT NULL,
    job_id TEXT NOT NULL,
    PRIMARY KEY (holder, mode, job_id)
) {strict};
