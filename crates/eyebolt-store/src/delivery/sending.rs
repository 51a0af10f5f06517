//! Sending: whoever has an endpoint's lease takes what is due to it and writes down what came of it.

use eyebolt_types::id::{EndpointId, EventId};
use jiff::Timestamp;

use super::{DeliveryAttempt, DeliveryState, KEPT};
use crate::{
    Endpoint, Store, StoreError,
    database::{Row, Statement},
    endpoint::{self, columns},
    times,
};

/// A delivery that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// What is delivered.
    pub event: EventId,
    /// Where, if not to the endpoint's own address.
    pub url: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was due.
    pub due_at: Timestamp,
    /// When what it tells of happened.
    pub recorded_at: Timestamp,
    /// What is sent; `None` where it is no longer kept.
    pub data: Option<String>,
}

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Where the delivery stands now.
    pub state: DeliveryState,
    /// When it is tried again.
    pub next_at: Option<Timestamp>,
    /// The endpoint as it stands now: state, times of failure and throttling.
    pub endpoint: Endpoint,
}

/// What was due before `$3`, or later, oldest first.
const DUE: &str = "SELECT d.event_id, d.url, d.attempts, d.next_at, d.created_at, v.data FROM webhook_deliveries d \
     LEFT JOIN events v ON v.subject = d.subject AND v.version = d.version \
     WHERE d.endpoint_id = $1 AND d.next_at <= $2 AND d.next_at >= $3 ORDER BY d.next_at LIMIT $4";
const HELD: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_endpoints WHERE id = $1 AND lease_token = $2 AND lease_until IS NOT NULL FOR UPDATE"
);
const SETTLE: &str = "UPDATE webhook_deliveries SET state = $1, attempts = attempts + 1, next_at = $2, \
                      finished_at = $3 WHERE endpoint_id = $4 AND event_id = $5 AND next_at IS NOT NULL";
const LOGGED: &str =
    "SELECT COALESCE(MAX(number), 0) FROM webhook_attempts WHERE endpoint_id = $1 AND event_id = $2";
const LOG: &str = "INSERT INTO webhook_attempts (endpoint_id, event_id, number, url, started_at, milliseconds, \
                   status, error, answer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// Those before the newest.
const FORGET: &str = "DELETE FROM webhook_attempts WHERE endpoint_id = $1 AND event_id = $2 AND number <= $3";
const HEALTH: &str = "UPDATE webhook_endpoints SET state = $2, disabled_at = $3, failing_since = $4, \
                      throttled_until = $5 WHERE id = $1";

impl Store {
    /// Deliveries of an endpoint that are due now and were so at `since` or later, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due_deliveries(
        &self,
        id: EndpointId,
        (since, now): (Option<Timestamp>, Timestamp),
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let parameters = [
            id.to_string().into(),
            times::micros(now).into(),
            since.map_or(i64::MIN, times::micros).into(),
            i64::from(limit).into(),
        ];
        let rows = self.database.read(move |transaction| transaction.query(DUE, &parameters)).await?;
        rows.iter().map(due).collect()
    }

    /// Writes down what came of an attempt, and what follows by `judge`, who is told how the endpoint stands now: it may have been
    /// changed or switched off meanwhile. A delivery that is over stays so. `false` where the lease is lost: nothing was
    /// written.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn settle_delivery(
        &self,
        (id, token): (EndpointId, i64),
        (event, attempt, now): (EventId, DeliveryAttempt, Timestamp),
        judge: impl Fn(Endpoint) -> Settlement + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                let held = (HELD, vec![id.to_string().into(), token.into()]);
                let logged = (LOGGED, vec![id.to_string().into(), event.to_string().into()]);
                let [held, logged] = &transaction.query_all(&[held, logged])?[..] else {
                    return Ok(false);
                };
                let Some(held) = held.first() else { return Ok(false) };
                let endpoint = endpoint::endpoint(held)?;
                let number = logged.first().map_or(Ok(0), |row| row.integer(0))? + 1;
                let settled = judge(endpoint.clone());
                let mut statements =
                    vec![settle((id, event), &settled, now), log((id, event), number, &attempt)];
                if number > KEPT {
                    let older = vec![id.to_string().into(), event.to_string().into(), (number - KEPT).into()];
                    statements.push((FORGET, older));
                }
                if settled.endpoint != endpoint {
                    statements.push(health(&settled.endpoint));
                }
                if settled.endpoint.state != endpoint::EndpointState::Enabled {
                    statements
                        .push((endpoint::GIVE_UP, vec![id.to_string().into(), times::micros(now).into()]));
                }
                transaction.query_all(&statements)?;
                Ok(true)
            })
            .await
    }
}

fn settle((id, event): (EndpointId, EventId), settled: &Settlement, now: Timestamp) -> Statement {
    let over = settled.next_at.is_none();
    let row = [
        settled.state.name().into(),
        settled.next_at.map(times::micros).into(),
        over.then(|| times::micros(now)).into(),
        id.to_string().into(),
        event.to_string().into(),
    ];
    (SETTLE, row.into())
}

fn log((id, event): (EndpointId, EventId), number: i64, attempt: &DeliveryAttempt) -> Statement {
    let row = [
        id.to_string().into(),
        event.to_string().into(),
        number.into(),
        attempt.url.as_str().into(),
        times::micros(attempt.started_at).into(),
        i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX).into(),
        attempt.status.map(i64::from).into(),
        attempt.error.clone().into(),
        attempt.answer.as_slice().into(),
    ];
    (LOG, row.into())
}

fn health(endpoint: &Endpoint) -> Statement {
    let row = [
        endpoint.id.to_string().into(),
        endpoint.state.name().into(),
        endpoint.disabled_at.map(times::micros).into(),
        endpoint.failing_since.map(times::micros).into(),
        endpoint.throttled_until.map(times::micros).into(),
    ];
    (HEALTH, row.into())
}

fn due(row: &Row) -> Result<DueDelivery, StoreError> {
    Ok(DueDelivery {
        event: row.parsed(0)?,
        url: row.optional_text(1)?,
        attempts: row.integer(2)? as u32,
        due_at: times::timestamp(row.integer(3)?)?,
        recorded_at: times::timestamp(row.integer(4)?)?,
        data: row.optional_text(5)?,
    })
}
