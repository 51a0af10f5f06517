-- What is agreed with a project; NULL: as the server's settings say. `limits` is JSON: what it has otherwise than its plan.
ALTER TABLE projects ADD COLUMN dedup_policy TEXT;
ALTER TABLE projects ADD COLUMN plan TEXT;
ALTER TABLE projects ADD COLUMN limits TEXT;
