-- What this database knows of the place that it belongs to, by name: a check value of the secret that hashes API keys.
CREATE TABLE place (
    name TEXT PRIMARY KEY,
    value {blob} NOT NULL
) {strict};
