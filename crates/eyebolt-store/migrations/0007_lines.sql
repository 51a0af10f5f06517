-- Jobs wait in lines: one for each project and class. `predicted_us`: how long a worker will be busy with it.
ALTER TABLE jobs ADD COLUMN class TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE jobs ADD COLUMN predicted_us {int} NOT NULL DEFAULT 0;
CREATE INDEX jobs_pending_by_line ON jobs (project_id, class, not_before, id) WHERE status = 'pending';
