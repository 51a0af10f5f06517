-- Jobs that wait past their deadline are found without a look at those that have time.
CREATE INDEX jobs_overdue ON jobs (deadline_at) WHERE status = 'pending';
