-- What a key was made for, in microseconds, before a rotation set its end: the key in its place lasts as long. 0: without end.
-- NULL: its end is its own.
ALTER TABLE api_keys ADD COLUMN made_for {int};

-- When a request last named the host of an endpoint of kind 'requests', to the hour: one that nobody names any more makes room.
ALTER TABLE webhook_endpoints ADD COLUMN named_at {int};
CREATE INDEX webhook_endpoints_named ON webhook_endpoints (named_at) WHERE kind = 'requests';
