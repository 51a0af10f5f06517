//! Events on their way to webhook endpoints. A row is the queue: what was recorded is sent, whoever crashes meanwhile.

mod again;
mod leasing;
mod missed;
mod sending;

use std::time::Duration;

use eyebolt_types::{
    EventType,
    id::{EndpointId, EventId},
};
use jiff::Timestamp;

pub use self::{
    leasing::{DueEndpoint, LeasedEndpoint},
    sending::{DueDelivery, Settlement},
};
use crate::{
    Store, StoreError,
    database::{Row, Transaction},
    endpoint::words,
    times,
};

words! {
    /// Where a delivery stands.
    DeliveryState {
        /// It is sent at its time.
        Pending = "pending",
        /// The receiver took it.
        Delivered = "delivered",
        /// Nobody tries any more.
        Failed = "failed",
    }
}

/// Attempts of a delivery that are kept, the newest: twice as many as the schedule has, for what is sent again and again by hand.
const KEPT: i64 = 20;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// Where it was sent.
    pub url: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What the receiver answered.
    pub status: Option<u16>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// The first bytes of the answer.
    pub answer: Vec<u8>,
}

/// A delivery as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// What is delivered.
    pub event: EventId,
    /// What happened.
    pub kind: EventType,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts since it was last begun anew.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    /// What came of the last 20 attempts, oldest first.
    pub log: Vec<DeliveryAttempt>,
}

/// Which deliveries of an endpoint are wanted.
#[derive(Debug, Clone)]
pub struct DeliveryFilter {
    /// Of which endpoint.
    pub endpoint: EndpointId,
    /// Only where they stand so.
    pub state: Option<DeliveryState>,
    /// Only those older than this one: the last of the page before.
    pub before: Option<(Timestamp, EventId)>,
    /// At most so many.
    pub limit: u32,
}

const LIST: &str = "SELECT event_id, type, state, attempts, next_at, created_at, finished_at \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND ($2 = '' OR state = $2) \
     AND (created_at < $3 OR (created_at = $3 AND event_id < $4)) \
     ORDER BY created_at DESC, event_id DESC LIMIT $5";
const ONE: &str = "SELECT event_id, type, state, attempts, next_at, created_at, finished_at \
                   FROM webhook_deliveries WHERE endpoint_id = $1 AND event_id = $2";
/// Newest first.
const ATTEMPTS: &str = "SELECT url, started_at, milliseconds, status, error, answer FROM webhook_attempts \
                        WHERE endpoint_id = $1 AND event_id = $2 ORDER BY number DESC LIMIT $3";
const OLD_ATTEMPTS: &str = "DELETE FROM webhook_attempts WHERE endpoint_id = $1 AND event_id IN (SELECT event_id \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND created_at < $2 ORDER BY created_at, event_id LIMIT $3)";
const OLD: &str = "DELETE FROM webhook_deliveries WHERE endpoint_id = $1 AND event_id IN (SELECT event_id \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND created_at < $2 ORDER BY created_at, event_id LIMIT $3)";
const ENDPOINTS: &str =
    "SELECT DISTINCT endpoint_id FROM webhook_deliveries WHERE created_at < $1 LIMIT 1000";

/// Two transactions on PostgreSQL, of which one switches an endpoint off and one ends a job, do not see each other.
const GIVE_UP: &str = "UPDATE webhook_deliveries SET state = 'failed', next_at = NULL, finished_at = $1 \
     WHERE next_at IS NOT NULL AND endpoint_id IN (SELECT id FROM webhook_endpoints WHERE state <> 'enabled')";

impl Store {
    /// Deliveries of an endpoint, newest first, with their log.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<StoredDelivery>, StoreError> {
        self.database
            .read(move |transaction| {
                let (before, last) = match &filter.before {
                    Some((at, event)) => (times::micros(*at), event.to_string()),
                    None => (i64::MAX, String::new()),
                };
                let parameters = [
                    filter.endpoint.to_string().into(),
                    filter.state.map_or("", DeliveryState::name).into(),
                    before.into(),
                    last.into(),
                    i64::from(filter.limit).into(),
                ];
                let rows = transaction.query(LIST, &parameters)?;
                with_logs(transaction, filter.endpoint, &rows)
            })
            .await
    }

    /// One delivery with its log.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delivery(
        &self,
        id: EndpointId,
        event: EventId,
    ) -> Result<Option<StoredDelivery>, StoreError> {
        self.database
            .read(move |transaction| {
                let rows = transaction.query(ONE, &[id.to_string().into(), event.to_string().into()])?;
                Ok(with_logs(transaction, id, &rows)?.pop())
            })
            .await
    }

    /// Gives up what was recorded for an endpoint in the moment in which it was switched off. How many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn give_up_deliveries(&self, now: Timestamp) -> Result<u64, StoreError> {
        let now = times::micros(now);
        self.database.write(move |transaction| transaction.execute(GIVE_UP, &[now.into()])).await
    }

    /// Removes deliveries that were recorded before, with their log: at most so many of each endpoint. How many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sweep_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let before = times::micros(before);
        let endpoints =
            self.database.read(move |transaction| transaction.query(ENDPOINTS, &[before.into()])).await?;
        let mut removed = 0;
        for row in endpoints {
            let row = vec![row.text(0)?.into(), before.into(), i64::from(limit).into()];
            removed += self
                .database
                .write(move |transaction| {
                    transaction.execute(OLD_ATTEMPTS, &row)?;
                    transaction.execute(OLD, &row)
                })
                .await?;
        }
        Ok(removed)
    }
}

fn with_logs(
    transaction: &mut dyn Transaction,
    id: EndpointId,
    rows: &[Row],
) -> Result<Vec<StoredDelivery>, StoreError> {
    let logs =
        rows.iter().map(|row| Ok((ATTEMPTS, vec![id.to_string().into(), row.text(0)?.into(), KEPT.into()])));
    let logs = transaction.query_all(&logs.collect::<Result<Vec<_>, StoreError>>()?)?;
    rows.iter().zip(logs).map(|(row, log)| delivery(row, &log)).collect()
}

fn delivery(row: &Row, log: &[Row]) -> Result<StoredDelivery, StoreError> {
    Ok(StoredDelivery {
        event: row.parsed(0)?,
        kind: row.parsed(1)?,
        state: row.parsed(2)?,
        attempts: row.integer(3)? as u32,
        next_at: times::optional(row.optional_integer(4)?)?,
        created_at: times::timestamp(row.integer(5)?)?,
        finished_at: times::optional(row.optional_integer(6)?)?,
        log: log.iter().rev().map(attempt).collect::<Result<_, _>>()?,
    })
}

fn attempt(row: &Row) -> Result<DeliveryAttempt, StoreError> {
    Ok(DeliveryAttempt {
        url: row.text(0)?,
        started_at: times::timestamp(row.integer(1)?)?,
        took: Duration::from_millis(row.integer(2)?.unsigned_abs()),
        status: row.optional_integer(3)?.and_then(|status| u16::try_from(status).ok()),
        error: row.optional_text(4)?,
        answer: row.optional_blob(5)?.unwrap_or_default(),
    })
}
