//! What a project used: from the ledger, never from counters beside it.

use eyebolt_types::{
    Feature, Mode,
    id::{JobId, KeyId, ProjectId},
};
use jiff::Timestamp;

use crate::{Store, StoreError, database::Row, times};

/// A day, in microseconds.
const DAY: i64 = 86_400_000_000;

/// A part of what a project used in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLine {
    /// The day's first instant (UTC).
    pub day: Timestamp,
    /// The key that asked.
    pub key: Option<KeyId>,
    /// What was answered; `None`: whole answers, given again.
    pub feature: Option<Feature>,
    /// The snapshot that answered.
    pub model: Option<String>,
    /// Why it was counted.
    pub kind: UsageKind,
    /// How often.
    pub count: u64,
    /// What it cost.
    pub units: u64,
}

/// Why something was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageKind {
    /// A step was run: it costs a unit.
    Step,
    /// A step's result was taken from another job with the same image: free.
    Duplicate,
    /// A stored answer was given again: free.
    Replay,
}

/// One charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The job.
    pub job: JobId,
    /// `use/` and the position of the step: unique in its job.
    pub transfer: String,
    /// Whose.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: Option<String>,
    /// What was answered.
    pub feature: Option<String>,
    /// The snapshot that answered.
    pub model: Option<String>,
    /// What it cost.
    pub units: u64,
    /// When.
    pub created_at: Timestamp,
}

/// Answers that were given again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replays {
    /// Whose.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: KeyId,
}

const USED: &str = "SELECT created_at / 86400000000, key_id, feature, model, \
                    CAST(CASE WHEN transfer LIKE 'duplicate/%' THEN 1 ELSE 0 END AS BIGINT), COUNT(*), \
                    CAST(SUM(units) AS BIGINT) FROM ledger_transfers WHERE project_id = $1 AND mode = $2 \
                    AND created_at >= $3 AND created_at < $4 AND to_account = 'used' GROUP BY 1, 2, 3, 4, 5 \
                    ORDER BY 1, 3, 4, 2, 5";
const REPLAYED: &str = "SELECT day, key_id, count FROM replays WHERE project_id = $1 AND mode = $2 AND day >= $3 \
                        AND day < $4 ORDER BY 1, 2";
const REPLAY: &str = "INSERT INTO replays (project_id, mode, key_id, day, count) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (project_id, mode, key_id, day) DO UPDATE SET count = replays.count + $5";
const CHARGES: &str = "SELECT job_id, transfer, project_id, mode, key_id, feature, model, units, created_at \
                       FROM ledger_transfers WHERE to_account = 'used' AND units > 0 AND created_at <= $4 \
                       AND (created_at > $1 OR (created_at = $1 AND job_id || '/' || transfer > $2)) \
                       ORDER BY created_at, job_id || '/' || transfer LIMIT $3";

impl Store {
    /// What was used from an instant until before another, by day, key, feature and model.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn usage(
        &self,
        (project, mode): (ProjectId, Mode),
        (from, before): (Timestamp, Timestamp),
    ) -> Result<Vec<UsageLine>, StoreError> {
        self.database
            .read(move |transaction| {
                let (from, before) = (times::micros(from), times::micros(before));
                let whose = || [project.to_string().into(), mode.name().into()];
                let [a, b] = whose();
                let used = transaction.query(USED, &[a, b, from.into(), before.into()])?;
                let [a, b] = whose();
                let days = [a, b, from.div_euclid(DAY).into(), (before + DAY - 1).div_euclid(DAY).into()];
                let replayed = transaction.query(REPLAYED, &days)?;
                used.iter().map(used_line).chain(replayed.iter().map(replayed_line)).collect()
            })
            .await
    }

    /// Counts answers that were given again, today.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn count_replays(
        &self,
        replays: Vec<(Replays, u64)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let day = times::micros(now).div_euclid(DAY);
        self.database
            .write(move |transaction| {
                for (whose, count) in &replays {
                    let row = [
                        whose.project.to_string().into(),
                        whose.mode.name().into(),
                        whose.key.to_string().into(),
                        day.into(),
                        (*count as i64).into(),
                    ];
                    transaction.execute(REPLAY, &row)?;
                }
                Ok(())
            })
            .await
    }

    /// Charges of all projects up to `until`, oldest first, after a place in that order: the instant and
    /// `JOB/TRANSFER` of the last one seen.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn charges(
        &self,
        after: (Timestamp, String),
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Charge>, StoreError> {
        let rows = self.database.read(move |transaction| {
            let place = [times::micros(after.0).into(), after.1.as_str().into()];
            let [since, last] = place;
            transaction.query(CHARGES, &[since, last, i64::from(limit).into(), times::micros(until).into()])
        });
        rows.await?.iter().map(charge).collect()
    }
}

fn used_line(row: &Row) -> Result<UsageLine, StoreError> {
    let duplicate = row.integer(4)? != 0;
    Ok(UsageLine {
        day: times::timestamp(row.integer(0)? * DAY)?,
        key: row.optional_parsed(1)?,
        feature: row.optional_parsed(2)?,
        model: row.optional_text(3)?,
        kind: if duplicate { UsageKind::Duplicate } else { UsageKind::Step },
        count: row.integer(5)? as u64,
        units: row.integer(6)? as u64,
    })
}

fn replayed_line(row: &Row) -> Result<UsageLine, StoreError> {
    Ok(UsageLine {
        day: times::timestamp(row.integer(0)? * DAY)?,
        key: row.optional_parsed(1)?,
        feature: None,
        model: None,
        kind: UsageKind::Replay,
        count: row.integer(2)? as u64,
        units: 0,
    })
}

fn charge(row: &Row) -> Result<Charge, StoreError> {
    Ok(Charge {
        job: row.parsed(0)?,
        transfer: row.text(1)?,
        project: row.parsed(2)?,
        mode: row.parsed(3)?,
        key: row.optional_text(4)?,
        feature: row.optional_text(5)?,
        model: row.optional_text(6)?,
        units: row.integer(7)? as u64,
        created_at: times::timestamp(row.integer(8)?)?,
    })
}
