-- Many images under one name. `accepting`: its items are being written; nobody sees it, and it is removed where its request
-- comes to nothing. `ending`: as what it is to end, where that was decided before all items had ended. `max_failures`: more
-- failed items than these end it. `answer`: the bytes that its request was answered with.
CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    key_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    ending TEXT,
    priority {int} NOT NULL,
    settings TEXT NOT NULL,
    total {int} NOT NULL,
    max_failures {int} NOT NULL,
    round {int} NOT NULL DEFAULT 1,
    created_at {int} NOT NULL,
    expires_at {int} NOT NULL,
    finished_at {int},
    answer {blob}
) {strict};
CREATE INDEX batches_by_project ON batches (project_id, mode, id);
CREATE INDEX batches_staged ON batches (created_at) WHERE status = 'accepting';
CREATE INDEX batches_open ON batches (created_at, id) WHERE status = 'processing';
CREATE INDEX batches_ended ON batches (finished_at, id) WHERE finished_at IS NOT NULL;

-- One image of a batch. It becomes a job when its turn comes, and ends in the transaction that ends its job; one without an
-- image was refused when it came. `pending` with a job: that job is to be run again. No counter is kept: a row that every
-- end changes would be waited for.
CREATE TABLE batch_items (
    batch_id TEXT NOT NULL REFERENCES batches (id),
    position {int} NOT NULL,
    custom_id TEXT NOT NULL,
    image_id TEXT,
    request TEXT NOT NULL,
    checked TEXT NOT NULL,
    status TEXT NOT NULL,
    job_id TEXT,
    error TEXT,
    finished_at {int},
    PRIMARY KEY (batch_id, position)
) {strict};
CREATE UNIQUE INDEX batch_items_by_name ON batch_items (batch_id, custom_id);
CREATE INDEX batch_items_by_status ON batch_items (batch_id, status, position);
CREATE INDEX batch_items_by_job ON batch_items (job_id) WHERE job_id IS NOT NULL;
-- Images that are still needed, although no job names them yet.
CREATE INDEX batch_items_waiting ON batch_items (image_id) WHERE status = 'pending';

-- The batch that an event belongs to: its own end, or that of an item's job.
ALTER TABLE events ADD COLUMN batch_id TEXT;
CREATE INDEX events_by_batch ON events (batch_id, position) WHERE batch_id IS NOT NULL;
