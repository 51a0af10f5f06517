//! Deliveries that are begun anew, and tests.

use eyebolt_types::{
    Mode,
    id::{EndpointId, EventId, ProjectId},
};
use jiff::Timestamp;

use crate::{NewEvent, Store, StoreError, database::Value, times};

const AGAIN: &str = "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = $3, \
                     finished_at = NULL WHERE endpoint_id = $1 AND event_id = $2";
/// `$5`: the types that the endpoint wants, a space around each, or `*`.
const MISSED: &str = "INSERT INTO webhook_deliveries \
     (endpoint_id, event_id, subject, version, type, state, next_at, created_at) \
     SELECT CAST($1 AS TEXT), v.id, v.subject, v.version, v.type, 'pending', CAST($2 AS BIGINT), v.created_at \
     FROM events v WHERE v.project_id = $3 AND v.mode = $4 AND v.created_at >= $6 AND v.type <> 'webhook.test' \
     AND (v.batch_id IS NULL OR v.batch_id = v.subject) \
     AND ($5 = '*' OR replace(CAST($5 AS TEXT), ' ' || v.type || ' ', '') <> $5) \
     AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = $1 AND d.event_id = v.id) \
     ORDER BY v.created_at LIMIT $7 ON CONFLICT DO NOTHING";
const WANTED: &str = "SELECT events FROM webhook_endpoints WHERE id = $1 FOR UPDATE";
const FAILED_SINCE: &str = "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = $2, \
     finished_at = NULL WHERE endpoint_id = $1 AND event_id IN (SELECT event_id FROM webhook_deliveries \
     WHERE endpoint_id = $1 AND created_at >= $3 AND state <> 'delivered' AND (next_at IS NULL OR attempts > 0) \
     LIMIT $4)";
const LAST_TEST: &str = "SELECT COALESCE(MAX(version), 0) FROM events WHERE subject = $1";
const TEST_EVENT: &str = "INSERT INTO events (subject, version, id, project_id, mode, type, data, created_at, \
                          position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)";
const TEST: &str = "INSERT INTO webhook_deliveries (endpoint_id, event_id, subject, version, type, state, \
                    next_at, created_at) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $6)";

impl Store {
    /// Begins a delivery anew, now. Whether it is there.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn replay_delivery(
        &self,
        (id, event): (EndpointId, EventId),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                let row = [id.to_string().into(), event.to_string().into(), times::micros(now).into()];
                Ok(transaction.execute(AGAIN, &row)? == 1)
            })
            .await
    }

    /// Begins anew what an endpoint wants and did not get of the events since then: at most so many of those that failed, and
    /// as many that were never recorded for it. How many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn replay_since(
        &self,
        (project, mode, id): (ProjectId, Mode, EndpointId),
        (since, limit): (Timestamp, u32),
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.database
            .write(move |transaction| {
                let (now, since) = (times::micros(now), times::micros(since));
                let name = || -> Value { id.to_string().into() };
                let Some(wanted) = transaction.query_one(WANTED, &[name()])? else { return Ok(0) };
                let failed = [name(), now.into(), since.into(), i64::from(limit).into()];
                let failed = transaction.execute(FAILED_SINCE, &failed)?;
                let missed = [
                    name(),
                    now.into(),
                    project.to_string().into(),
                    mode.name().into(),
                    wanted.text(0)?.into(),
                    since.into(),
                    i64::from(limit).into(),
                ];
                Ok(failed + transaction.execute(MISSED, &missed)?)
            })
            .await
    }

    /// Records a test for one endpoint: the event that `make` makes of its version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn test_endpoint(
        &self,
        (project, mode, id): (ProjectId, Mode, EndpointId),
        make: impl Fn(u32) -> NewEvent + Send + 'static,
        now: Timestamp,
    ) -> Result<EventId, StoreError> {
        self.database
            .write(move |transaction| {
                let name = || -> Value { id.to_string().into() };
                transaction.query_one(WANTED, &[name()])?;
                let last = transaction.query_one(LAST_TEST, &[name()])?;
                let version = last.map_or(Ok(0), |row| row.integer(0))? + 1;
                let event = make(u32::try_from(version).unwrap_or(u32::MAX));
                let (now, kind) = (times::micros(now), event.kind.name());
                let row = vec![
                    name(),
                    version.into(),
                    event.id.to_string().into(),
                    project.to_string().into(),
                    mode.name().into(),
                    kind.into(),
                    event.data.as_str().into(),
                    now.into(),
                ];
                let delivery = vec![
                    name(),
                    event.id.to_string().into(),
                    name(),
                    version.into(),
                    kind.into(),
                    now.into(),
                ];
                transaction.query_all(&[(TEST_EVENT, row), (TEST, delivery)])?;
                Ok(event.id)
            })
            .await
    }
}
