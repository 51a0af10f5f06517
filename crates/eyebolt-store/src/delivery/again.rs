//! Deliveries that are begun anew, and tests.

use eyebolt_types::{
    Mode,
    id::{EndpointId, EventId, ProjectId},
};
use jiff::Timestamp;

use crate::{NewEvent, Store, StoreError, database::Value, times};

const AGAIN: &str = "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = $3, \
                     finished_at = NULL WHERE endpoint_id = $1 AND event_id = $2";
const WANTED: &str = "SELECT events FROM webhook_endpoints WHERE id = $1 FOR UPDATE";
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
