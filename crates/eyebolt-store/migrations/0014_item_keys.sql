-- An item may have an idempotency key of its own. `fingerprint`: what the same request would be known by that asks for this
-- image alone; none of an item whose image was refused. `joined`: its job is not its own, but was there under the key before: it
-- ends with it, and never ends it.
ALTER TABLE batch_items ADD COLUMN idempotency_key TEXT;
ALTER TABLE batch_items ADD COLUMN fingerprint {blob};
ALTER TABLE batch_items ADD COLUMN joined {int} NOT NULL DEFAULT 0;
