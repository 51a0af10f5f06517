-- The outbox: a fact that is told, written in the transaction that made it. `version` counts the events of a subject
-- (a job's is its round). `data` is what is sent, byte for byte. `position` is given when somebody reads the project's
-- events in their order, one after the other under the lock of the counter: whoever sees one sees all before it. Rows are
-- added at the right end of each index: their ids, which are spread evenly, are in none.
CREATE TABLE events (
    subject TEXT NOT NULL,
    version {int} NOT NULL,
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at {int} NOT NULL,
    position {int},
    PRIMARY KEY (subject, version)
) {strict};
CREATE INDEX events_by_time ON events (project_id, mode, created_at);
CREATE INDEX events_unnumbered ON events (project_id, mode, created_at) WHERE position IS NULL;
CREATE UNIQUE INDEX events_by_position ON events (project_id, mode, position) WHERE position > 0;

-- The last position that was given, and the last one that was removed.
CREATE TABLE event_counters (
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    last {int} NOT NULL,
    removed {int} NOT NULL,
    PRIMARY KEY (project_id, mode)
) {strict};

-- Who wants to be told. `events`: the types, a space around each, or '*'. The lease is of the endpoint: whoever has it
-- sends all that is due to it, so that its limits hold for all servers together. `kind`: 'own', or 'requests' for all
-- addresses on one host that requests named themselves.
CREATE TABLE webhook_endpoints (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    mode TEXT NOT NULL,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    events TEXT NOT NULL,
    signature TEXT NOT NULL,
    state TEXT NOT NULL,
    disabled_at {int},
    failing_since {int},
    throttled_until {int},
    created_at {int} NOT NULL,
    lease_owner TEXT,
    lease_token {int} NOT NULL DEFAULT 0,
    lease_until {int}
) {strict};
CREATE UNIQUE INDEX webhook_endpoints_by_url ON webhook_endpoints (project_id, mode, kind, url);

-- What its messages are signed with, sealed; several while one takes another's place. `owner`: an endpoint, or a project
-- and mode for the addresses that requests name.
CREATE TABLE webhook_secrets (
    owner TEXT NOT NULL,
    number {int} NOT NULL,
    sealed {blob} NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int},
    PRIMARY KEY (owner, number)
) {strict};

-- An event on its way to an endpoint: due at `next_at`, over where there is none. The row is the queue. `url`: where that is
-- not the endpoint's own. `attempts`: since it was last begun anew.
CREATE TABLE webhook_deliveries (
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    version {int} NOT NULL,
    type TEXT NOT NULL,
    url TEXT,
    state TEXT NOT NULL,
    attempts {int} NOT NULL DEFAULT 0,
    next_at {int},
    created_at {int} NOT NULL,
    finished_at {int},
    PRIMARY KEY (endpoint_id, event_id)
) {strict};
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (endpoint_id, created_at, event_id);

-- What came of each attempt. `answer`: the first bytes of what the receiver said.
CREATE TABLE webhook_attempts (
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    number {int} NOT NULL,
    url TEXT NOT NULL,
    started_at {int} NOT NULL,
    milliseconds {int} NOT NULL,
    status {int},
    error TEXT,
    answer {blob},
    PRIMARY KEY (endpoint_id, event_id, number)
) {strict};
