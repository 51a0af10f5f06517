//! The outbox: events are written in the transaction that makes them true, and read by the subject or, in the order of
//! their positions, by the project.

use eyebolt_types::{
    EventType, Mode,
    id::{BatchId, EventId, JobId, ProjectId},
};
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::{
    Store, StoreError,
    database::{Row, Statement, Transaction},
    times,
};

/// An event to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Made of subject, type and version: the same after a crash.
    pub id: EventId,
    /// What happened.
    pub kind: EventType,
    /// Counts the events of its subject, from 1: of a job, its round.
    pub version: u32,
    /// What is sent, byte for byte.
    pub data: String,
    /// Where the request wants to be told, beside the project's endpoints.
    pub told_at: Option<ToldAt>,
    /// The batch that its job belongs to: then the project's endpoints are not told, since they are told of the batch.
    pub batch: Option<BatchId>,
}

/// Where a request wants to be told of its job's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldAt {
    /// The address.
    pub url: String,
    /// Scheme, host and port of it: the endpoint of kind `requests` that stands for all such addresses.
    pub origin: String,
}

/// An event as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its name.
    pub id: EventId,
    /// What happened.
    pub kind: EventType,
    /// Which event of its subject.
    pub version: u32,
    /// Its place among the events of the project and mode; 0 where it has none.
    pub position: u64,
    /// What is sent.
    pub data: String,
}

/// What of a project's events can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The last position.
    pub last: u64,
    /// The last position that is no longer kept.
    pub removed: u64,
}

/// The subject is a job.
const INSERT: &str = "INSERT INTO events (subject, version, id, project_id, mode, type, data, created_at, batch_id) \
                      VALUES ($1, $2, $3, (SELECT project_id FROM jobs WHERE id = $1), \
                      (SELECT mode FROM jobs WHERE id = $1), $4, $5, $6, $7) ON CONFLICT DO NOTHING";
/// The subject is a batch.
const INSERT_OF_BATCH: &str = "INSERT INTO events (subject, version, id, project_id, mode, type, data, created_at, \
                               batch_id) VALUES ($1, $2, $3, (SELECT project_id FROM batches WHERE id = $1), \
                               (SELECT mode FROM batches WHERE id = $1), $4, $5, $6, $7) ON CONFLICT DO NOTHING";
/// `$6`: the type with a space on either side.
const FAN_OUT: &str = "INSERT INTO webhook_deliveries \
     (endpoint_id, event_id, subject, version, type, state, next_at, created_at) \
     SELECT e.id, CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), 'pending', \
     CAST($5 AS BIGINT), CAST($5 AS BIGINT) FROM jobs j \
     JOIN webhook_endpoints e ON e.project_id = j.project_id AND e.mode = j.mode \
     WHERE j.id = $2 AND e.kind = 'own' AND e.state = 'enabled' \
     AND (e.events = '*' OR replace(e.events, $6, '') <> e.events) ON CONFLICT DO NOTHING";
const TELL_AT: &str = "INSERT INTO webhook_deliveries \
     (endpoint_id, event_id, subject, version, type, url, state, next_at, created_at) \
     SELECT e.id, CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), CAST($5 AS TEXT), \
     'pending', CAST($6 AS BIGINT), CAST($6 AS BIGINT) FROM jobs j \
     JOIN webhook_endpoints e ON e.project_id = j.project_id AND e.mode = j.mode \
     WHERE j.id = $2 AND e.kind = 'requests' AND e.url = $7 AND e.state = 'enabled' \
     ON CONFLICT DO NOTHING";
const FAN_OUT_OF_BATCH: &str = "INSERT INTO webhook_deliveries \
     (endpoint_id, event_id, subject, version, type, state, next_at, created_at) \
     SELECT e.id, CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), 'pending', \
     CAST($5 AS BIGINT), CAST($5 AS BIGINT) FROM batches j \
     JOIN webhook_endpoints e ON e.project_id = j.project_id AND e.mode = j.mode \
     WHERE j.id = $2 AND e.kind = 'own' AND e.state = 'enabled' \
     AND (e.events = '*' OR replace(e.events, $6, '') <> e.events) ON CONFLICT DO NOTHING";
const TELL_AT_OF_BATCH: &str = "INSERT INTO webhook_deliveries \
     (endpoint_id, event_id, subject, version, type, url, state, next_at, created_at) \
     SELECT e.id, CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), CAST($5 AS TEXT), \
     'pending', CAST($6 AS BIGINT), CAST($6 AS BIGINT) FROM batches j \
     JOIN webhook_endpoints e ON e.project_id = j.project_id AND e.mode = j.mode \
     WHERE j.id = $2 AND e.kind = 'requests' AND e.url = $7 AND e.state = 'enabled' \
     ON CONFLICT DO NOTHING";
const OF_SUBJECT: &str = "SELECT id, type, version, COALESCE(position, 0), data FROM events \
                          WHERE subject = $1 AND version > $2 ORDER BY version LIMIT 100";
const AFTER: &str = "SELECT id, type, version, position, data FROM events \
                     WHERE project_id = $1 AND mode = $2 AND position > $3 AND position > 0 \
                     ORDER BY position LIMIT $4";
const OF_BATCH: &str = "SELECT id, type, version, position, data FROM events \
                        WHERE batch_id = $1 AND position > $2 ORDER BY position LIMIT $3";
const UNNUMBERED: &str = "SELECT subject, version FROM events WHERE project_id = $1 AND mode = $2 \
                          AND position IS NULL ORDER BY created_at, subject, version LIMIT $3";
const COUNTER: &str = "INSERT INTO event_counters (project_id, mode, last, removed) VALUES ($1, $2, 0, 0) \
                       ON CONFLICT DO NOTHING";
const LOCK: &str = "SELECT last, removed FROM event_counters WHERE project_id = $1 AND mode = $2 FOR UPDATE";
const HORIZON: &str = "SELECT last, removed FROM event_counters WHERE project_id = $1 AND mode = $2";
const NUMBER: &str = "UPDATE events SET position = $1 WHERE subject = $2 AND version = $3";
const COUNT: &str = "UPDATE event_counters SET last = $1, removed = $2 WHERE project_id = $3 AND mode = $4";
const OLD: &str = "DELETE FROM events WHERE (subject, version) IN (SELECT subject, version FROM events \
                   WHERE project_id = $1 AND mode = $2 AND created_at < $3 ORDER BY created_at LIMIT $4) \
                   RETURNING COALESCE(position, -1)";

/// Events numbered in one transaction.
const BATCH: i64 = 500;

impl Store {
    /// Projects with a new event, in any server on this database: a hint. Whoever misses one looks by himself.
    pub fn news(&self) -> broadcast::Receiver<ProjectId> {
        self.database.signals.news()
    }

    /// Tells everybody on this database, here too, that a project has a new event or delivery.
    pub fn tell_event(&self, project: ProjectId) {
        self.database.signals.tell_event(project);
    }

    /// Events of a job after this version, oldest first: a hundred at most.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn events_of(&self, job: JobId, after: u64) -> Result<Vec<StoredEvent>, StoreError> {
        let parameters = [job.to_string().into(), (after as i64).into()];
        let rows = self.database.read(move |transaction| transaction.query(OF_SUBJECT, &parameters));
        rows.await?.iter().map(event).collect()
    }

    /// Events of a project after this position, in their order. An event that is committed later has a greater position.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn events(
        &self,
        (project, mode): (ProjectId, Mode),
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.number_new_events((project, mode)).await?;
        let rows = self.database.read(move |transaction| {
            let after = after as i64;
            let page =
                [project.to_string().into(), mode.name().into(), after.into(), i64::from(limit).into()];
            transaction.query(AFTER, &page)
        });
        rows.await?.iter().map(event).collect()
    }

    /// Events of a batch and its items after this position, in their order.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn events_of_batch(
        &self,
        (project, mode, batch): (ProjectId, Mode, BatchId),
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.number_new_events((project, mode)).await?;
        let page = [batch.to_string().into(), (after as i64).into(), i64::from(limit).into()];
        let rows = self.database.read(move |transaction| transaction.query(OF_BATCH, &page));
        rows.await?.iter().map(event).collect()
    }

    async fn number_new_events(&self, (project, mode): (ProjectId, Mode)) -> Result<(), StoreError> {
        let waits = self.database.read(move |transaction| {
            let one = [project.to_string().into(), mode.name().into(), 1.into()];
            Ok(!transaction.query(UNNUMBERED, &one)?.is_empty())
        });
        if waits.await? {
            self.number_events((project, mode)).await?;
        }
        Ok(())
    }

    /// Gives positions to the events that have none. Under the counter's lock, which is held until the commit: positions
    /// become visible in their order, whatever other transactions commit meanwhile.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn number_events(&self, (project, mode): (ProjectId, Mode)) -> Result<Horizon, StoreError> {
        self.database
            .write(move |transaction| {
                let whose = [project.to_string().into(), mode.name().into()];
                transaction.execute(COUNTER, &whose)?;
                let mut horizon = horizon(transaction.query_one(LOCK, &whose)?.as_ref())?;
                loop {
                    let [project, mode] = whose.clone();
                    let rows = transaction.query(UNNUMBERED, &[project, mode, BATCH.into()])?;
                    let numbered = rows.iter().zip(horizon.last + 1..).map(|(row, position)| {
                        let row = [row.text(0)?.into(), row.integer(1)?.into()];
                        Ok((NUMBER, [vec![(position as i64).into()], row.into()].concat()))
                    });
                    transaction.query_all(&numbered.collect::<Result<Vec<_>, StoreError>>()?)?;
                    horizon.last += rows.len() as u64;
                    if (rows.len() as i64) < BATCH {
                        break;
                    }
                }
                count(transaction, (project, mode), horizon)?;
                Ok(horizon)
            })
            .await
    }

    /// What can be read of a project's events.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn event_horizon(&self, (project, mode): (ProjectId, Mode)) -> Result<Horizon, StoreError> {
        let whose = [project.to_string().into(), mode.name().into()];
        let row = self.database.read(move |transaction| transaction.query_one(HORIZON, &whose)).await?;
        horizon(row.as_ref())
    }

    /// Removes events that were made before; how many. Cursors before the last of them can't be gone on from.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sweep_events(
        &self,
        (project, mode): (ProjectId, Mode),
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.database
            .write(move |transaction| {
                let whose = [project.to_string().into(), mode.name().into()];
                let mut horizon = horizon(transaction.query_one(LOCK, &whose)?.as_ref())?;
                let [of, kind] = whose;
                let old = [of, kind, times::micros(before).into(), i64::from(limit).into()];
                let removed = transaction.query(OLD, &old)?;
                for row in &removed {
                    if let Ok(position) = u64::try_from(row.integer(0)?) {
                        horizon.removed = horizon.removed.max(position);
                    } else {
                        // One that nobody was told of: the position that it would have had is gone with it.
                        horizon.last += 1;
                        horizon.removed = horizon.last;
                    }
                }
                if !removed.is_empty() {
                    count(transaction, (project, mode), horizon)?;
                }
                Ok(removed.len() as u64)
            })
            .await
    }
}

/// The statements that write an event of a job and its deliveries down: in the round of what they tell of.
pub(crate) fn write(event: &NewEvent, job: JobId, now: Timestamp) -> Vec<Statement> {
    let fan_out = event.batch.is_none().then_some(FAN_OUT);
    written(event, (&job.to_string(), now), (INSERT, fan_out, TELL_AT))
}

/// The same of the end of a batch.
pub(crate) fn write_of_batch(event: &NewEvent, batch: BatchId, now: Timestamp) -> Vec<Statement> {
    let statements = (INSERT_OF_BATCH, Some(FAN_OUT_OF_BATCH), TELL_AT_OF_BATCH);
    written(event, (&batch.to_string(), now), statements)
}

fn written(
    event: &NewEvent,
    (subject, now): (&str, Timestamp),
    (insert, fan_out, tell_at): (&'static str, Option<&'static str>, &'static str),
) -> Vec<Statement> {
    let (id, version) = (event.id.to_string(), i64::from(event.version));
    let (kind, now) = (event.kind.name(), times::micros(now));
    let row = vec![
        subject.into(),
        version.into(),
        id.as_str().into(),
        kind.into(),
        event.data.as_str().into(),
        now.into(),
        event.batch.map(|batch| batch.to_string()).into(),
    ];
    let delivery = [id.into(), subject.into(), version.into(), kind.into()];
    let endpoints = [now.into(), format!(" {kind} ").into()];
    let mut written = vec![(insert, row)];
    written.extend(fan_out.map(|fan_out| (fan_out, [&delivery[..], &endpoints].concat())));
    written.extend(event.told_at.as_ref().map(|told| {
        let there = [told.url.as_str().into(), now.into(), told.origin.as_str().into()];
        (tell_at, [&delivery[..], &there].concat())
    }));
    written
}

fn count(
    transaction: &mut dyn Transaction,
    (project, mode): (ProjectId, Mode),
    horizon: Horizon,
) -> Result<(), StoreError> {
    let row = [
        (horizon.last as i64).into(),
        (horizon.removed as i64).into(),
        project.to_string().into(),
        mode.name().into(),
    ];
    transaction.execute(COUNT, &row).map(drop)
}

fn horizon(row: Option<&Row>) -> Result<Horizon, StoreError> {
    let Some(row) = row else { return Ok(Horizon { last: 0, removed: 0 }) };
    Ok(Horizon { last: row.integer(0)?.unsigned_abs(), removed: row.integer(1)?.unsigned_abs() })
}

fn event(row: &Row) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent {
        id: row.parsed(0)?,
        kind: row.parsed(1)?,
        version: row.integer(2)? as u32,
        position: row.integer(3)?.unsigned_abs(),
        data: row.text(4)?,
    })
}
