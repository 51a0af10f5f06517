-- What happens to an image that the project has sent before; NULL: as the server's settings say.
ALTER TABLE projects ADD COLUMN dedup_policy TEXT;
