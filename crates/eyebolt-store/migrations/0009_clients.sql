-- How the clients of a key behave, by hour since 1970. Several servers add up.
CREATE TABLE client_hours (
    key_id TEXT NOT NULL,
    hour {int} NOT NULL,
    requests {int} NOT NULL,
    submissions {int} NOT NULL,
    retries {int} NOT NULL,
    duplicates {int} NOT NULL,
    client_errors {int} NOT NULL,
    final_repeats {int} NOT NULL,
    refusals {int} NOT NULL,
    early_returns {int} NOT NULL,
    server_errors {int} NOT NULL,
    PRIMARY KEY (key_id, hour)
) {strict};
CREATE INDEX client_hours_by_hour ON client_hours (hour);

-- What programs they say they are, by day; a few, and the rest as `other`.
CREATE TABLE client_agents (
    key_id TEXT NOT NULL,
    day {int} NOT NULL,
    agent TEXT NOT NULL,
    requests {int} NOT NULL,
    PRIMARY KEY (key_id, day, agent)
) {strict};
CREATE INDEX client_agents_by_day ON client_agents (day);

-- When a client ran away. `seen_at`: until when its server knew of it; one that died tells no end.
CREATE TABLE client_runaways (
    id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    cause TEXT NOT NULL,
    began_at {int} NOT NULL,
    seen_at {int} NOT NULL,
    ended_at {int},
    strikes {int} NOT NULL,
    refused {int} NOT NULL
) {strict};
CREATE INDEX client_runaways_by_key ON client_runaways (key_id, began_at);
CREATE INDEX client_runaways_by_time ON client_runaways (seen_at);
