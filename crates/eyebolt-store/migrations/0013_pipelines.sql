-- What a step costs at most: more than one unit where it is done for each of several parts. `tasks`: how many parts there
-- are, once that is known. `work_key`: what its work is known by.
ALTER TABLE steps ADD COLUMN units {int} NOT NULL DEFAULT 1;
ALTER TABLE steps ADD COLUMN tasks {int};
ALTER TABLE steps ADD COLUMN work_key {blob};

-- A part of a step: written with the end of the step that found it. A finished one never changes, but to be run again where
-- it did not succeed. Results stay as long as the job does.
CREATE TABLE tasks (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    position {int} NOT NULL,
    number {int} NOT NULL,
    work_key {blob} NOT NULL,
    region TEXT NOT NULL,
    feature TEXT NOT NULL,
    model TEXT,
    status TEXT NOT NULL,
    attempts {int} NOT NULL DEFAULT 0,
    result {blob},
    error TEXT,
    started_at {int},
    finished_at {int},
    PRIMARY KEY (job_id, position, number)
) {strict};

-- Pipelines that have a name. A version never changes.
CREATE TABLE pipelines (
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    version {int} NOT NULL,
    digest TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (project_id, mode, name, version)
) {strict};

-- The version that a name alone means, where that is not the newest one.
CREATE TABLE pipeline_defaults (
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    version {int} NOT NULL,
    PRIMARY KEY (project_id, mode, name)
) {strict};
