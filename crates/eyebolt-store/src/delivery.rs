//! Events on their way to webhook endpoints. A row is the queue: what was recorded is sent, whoever crashes meanwhile. The
//! lease is of the endpoint; its token only grows, and who writes with an older one changes nothing (fencing).

use std::time::Duration;

use eyebolt_types::{
    EventType, Mode,
    id::{EndpointId, EventId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Endpoint, Lease, NewEvent, Store, StoreError,
    database::{Row, Statement, Transaction, Value},
    endpoint::{self, columns, words},
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

/// An endpoint that this process sends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The fencing token: greater than every earlier one of this endpoint.
    pub token: i64,
}

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

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// What was delivered.
    pub event: EventId,
    /// What came of it.
    pub attempt: DeliveryAttempt,
    /// Where the delivery stands now.
    pub state: DeliveryState,
    /// When it is tried again.
    pub next_at: Option<Timestamp>,
    /// The endpoint as it stands now: state, times of failure and throttling.
    pub endpoint: Endpoint,
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
    /// What came of each attempt, oldest first.
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

const CLAIMABLE: &str = "SELECT e.id FROM webhook_endpoints e WHERE e.state = 'enabled' \
     AND (e.lease_until IS NULL OR e.lease_until < $1) \
     AND (e.throttled_until IS NULL OR e.throttled_until <= $1) \
     AND EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.next_at <= $1) LIMIT $2";
const CLAIM: &str = concat!(
    "UPDATE webhook_endpoints SET lease_owner = $3, lease_until = $4, lease_token = lease_token + 1 \
     WHERE id IN (SELECT e.id FROM webhook_endpoints e WHERE e.state = 'enabled' \
     AND (e.lease_until IS NULL OR e.lease_until < $1) \
     AND (e.throttled_until IS NULL OR e.throttled_until <= $1) \
     AND EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.next_at <= $1) \
     LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING ",
    columns!(),
    ", lease_token"
);
/// Of an earlier run of the same process: their names begin alike. No `LIKE`: names are no patterns.
const TAKE_BACK: &str = "UPDATE webhook_endpoints SET lease_until = NULL, lease_owner = NULL \
                         WHERE lease_until IS NOT NULL AND substr(lease_owner, 1, length($1)) = $1";
const KEEP: &str = concat!(
    "UPDATE webhook_endpoints SET lease_until = $1 WHERE id = $2 AND lease_token = $3 \
     AND lease_until IS NOT NULL AND state = 'enabled' RETURNING ",
    columns!(),
    ", lease_token"
);
const RELEASE: &str = "UPDATE webhook_endpoints SET lease_until = NULL, lease_owner = NULL \
                       WHERE id = $1 AND lease_token = $2";
/// What was due before `$3`, or later, oldest first.
const DUE: &str = "SELECT d.event_id, d.url, d.attempts, d.next_at, d.created_at, v.data FROM webhook_deliveries d \
     LEFT JOIN events v ON v.subject = d.subject AND v.version = d.version \
     WHERE d.endpoint_id = $1 AND d.next_at <= $2 AND d.next_at >= $3 ORDER BY d.next_at LIMIT $4";
const HELD: &str = "SELECT id FROM webhook_endpoints WHERE id = $1 AND lease_token = $2 \
                    AND lease_until IS NOT NULL FOR UPDATE";
const SETTLE: &str = "UPDATE webhook_deliveries SET state = $1, attempts = attempts + 1, next_at = $2, \
                      finished_at = $3 WHERE endpoint_id = $4 AND event_id = $5 AND next_at IS NOT NULL";
const LOGGED: &str =
    "SELECT COALESCE(MAX(number), 0) FROM webhook_attempts WHERE endpoint_id = $1 AND event_id = $2";
const LOG: &str = "INSERT INTO webhook_attempts (endpoint_id, event_id, number, url, started_at, milliseconds, \
                   status, error, answer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const HEALTH: &str = "UPDATE webhook_endpoints SET state = $2, disabled_at = $3, failing_since = $4, \
                      throttled_until = $5 WHERE id = $1";
const LIST: &str = "SELECT event_id, type, state, attempts, next_at, created_at, finished_at \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND ($2 = '' OR state = $2) \
     AND (created_at < $3 OR (created_at = $3 AND event_id < $4)) \
     ORDER BY created_at DESC, event_id DESC LIMIT $5";
const ONE: &str = "SELECT event_id, type, state, attempts, next_at, created_at, finished_at \
                   FROM webhook_deliveries WHERE endpoint_id = $1 AND event_id = $2";
const ATTEMPTS: &str = "SELECT url, started_at, milliseconds, status, error, answer FROM webhook_attempts \
                        WHERE endpoint_id = $1 AND event_id = $2 ORDER BY number";
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
const OLD_ATTEMPTS: &str = "DELETE FROM webhook_attempts WHERE endpoint_id = $1 AND event_id IN (SELECT event_id \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND created_at < $2 ORDER BY created_at, event_id LIMIT $3)";
const OLD: &str = "DELETE FROM webhook_deliveries WHERE endpoint_id = $1 AND event_id IN (SELECT event_id \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND created_at < $2 ORDER BY created_at, event_id LIMIT $3)";
const ENDPOINTS: &str =
    "SELECT DISTINCT endpoint_id FROM webhook_deliveries WHERE created_at < $1 LIMIT 1000";
const LAST_TEST: &str = "SELECT COALESCE(MAX(version), 0) FROM events WHERE subject = $1";
const TEST_EVENT: &str = "INSERT INTO events (subject, version, id, project_id, mode, type, data, created_at, \
                          position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)";
const TEST: &str = "INSERT INTO webhook_deliveries (endpoint_id, event_id, subject, version, type, state, \
                    next_at, created_at) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $6)";

impl Store {
    /// Leases endpoints that something is due to and nobody sends to.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_endpoints(
        &self,
        lease: Lease,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<LeasedEndpoint>, StoreError> {
        let sought = [times::micros(now).into(), i64::from(limit).into()];
        let looked = sought.clone();
        // Mostly there is nothing to do, which needs no transaction.
        let found = self.database.read(move |transaction| transaction.query(CLAIMABLE, &looked)).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        self.database
            .write(move |transaction| {
                let who = [lease.owner.as_str().into(), times::micros(lease.until).into()];
                let rows = transaction.query(CLAIM, &[sought.clone(), who].concat())?;
                rows.iter().map(leased).collect()
            })
            .await
    }

    /// Gives up the leases of owners whose names begin so: an earlier run of the same process.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn take_back_endpoints(&self, owner: &str) -> Result<(), StoreError> {
        let owner: Value = owner.into();
        self.database
            .write(move |transaction| transaction.execute(TAKE_BACK, std::slice::from_ref(&owner)).map(drop))
            .await
    }

    /// Keeps a lease alive: the endpoint as it is now, or `None` where the lease is lost, or the endpoint gone or off.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep_endpoint(
        &self,
        (id, token): (EndpointId, i64),
        until: Timestamp,
    ) -> Result<Option<Endpoint>, StoreError> {
        self.database
            .write(move |transaction| {
                let parameters = [times::micros(until).into(), id.to_string().into(), token.into()];
                let row = transaction.query_one(KEEP, &parameters)?;
                row.as_ref().map(endpoint::endpoint).transpose()
            })
            .await
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn release_endpoint(&self, (id, token): (EndpointId, i64)) -> Result<(), StoreError> {
        self.database
            .write(move |transaction| {
                transaction.execute(RELEASE, &[id.to_string().into(), token.into()]).map(drop)
            })
            .await
    }

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

    /// Writes down what came of an attempt, and what follows; a delivery that is over stays so. `false` where the lease
    /// is lost: nothing was written.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn settle_delivery(
        &self,
        (id, token): (EndpointId, i64),
        settled: Settlement,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                let held = (HELD, vec![id.to_string().into(), token.into()]);
                let logged = (LOGGED, vec![id.to_string().into(), settled.event.to_string().into()]);
                let [held, logged] = &transaction.query_all(&[held, logged])?[..] else {
                    return Ok(false);
                };
                if held.is_empty() {
                    return Ok(false);
                }
                let number = logged.first().map_or(Ok(0), |row| row.integer(0))? + 1;
                let mut statements = vec![settle(id, &settled, now), log((id, number), &settled)];
                statements.push(health(&settled));
                if settled.endpoint.state != endpoint::EndpointState::Enabled {
                    statements
                        .push((endpoint::GIVE_UP, vec![id.to_string().into(), times::micros(now).into()]));
                }
                transaction.query_all(&statements)?;
                Ok(true)
            })
            .await
    }

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

fn settle(id: EndpointId, settled: &Settlement, now: Timestamp) -> Statement {
    let over = settled.next_at.is_none();
    let row = [
        settled.state.name().into(),
        settled.next_at.map(times::micros).into(),
        over.then(|| times::micros(now)).into(),
        id.to_string().into(),
        settled.event.to_string().into(),
    ];
    (SETTLE, row.into())
}

fn log((id, number): (EndpointId, i64), settled: &Settlement) -> Statement {
    let attempt = &settled.attempt;
    let row = [
        id.to_string().into(),
        settled.event.to_string().into(),
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

fn health(settled: &Settlement) -> Statement {
    let endpoint = &settled.endpoint;
    let row = [
        endpoint.id.to_string().into(),
        endpoint.state.name().into(),
        endpoint.disabled_at.map(times::micros).into(),
        endpoint.failing_since.map(times::micros).into(),
        endpoint.throttled_until.map(times::micros).into(),
    ];
    (HEALTH, row.into())
}

fn leased(row: &Row) -> Result<LeasedEndpoint, StoreError> {
    Ok(LeasedEndpoint { endpoint: endpoint::endpoint(row)?, token: row.integer(endpoint::COLUMNS)? })
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

fn with_logs(
    transaction: &mut dyn Transaction,
    id: EndpointId,
    rows: &[Row],
) -> Result<Vec<StoredDelivery>, StoreError> {
    let logs = rows.iter().map(|row| Ok((ATTEMPTS, vec![id.to_string().into(), row.text(0)?.into()])));
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
        log: log.iter().map(attempt).collect::<Result<_, _>>()?,
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
