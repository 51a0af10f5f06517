//! The ledger: double entry. A price is reserved when a job is accepted, and used or released when it ends, in the
//! transactions that do so.

use eyebolt_types::{
    Mode,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;

use crate::{NewJob, Store, StoreError, database::Statement, times};

/// Units of a project in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Held by jobs that have not ended.
    pub reserved: i64,
    /// Charged.
    pub used: i64,
}

/// What the self-audit found. All lists are empty where the ledger is sound; each has at most a thousand names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Jobs that ended with units still reserved.
    pub unsettled: Vec<String>,
    /// Jobs that run without a reservation.
    pub unreserved: Vec<String>,
    /// Jobs that gave away more units than they had.
    pub overdrawn: Vec<String>,
    /// Jobs that were charged for a step that did not succeed.
    pub overcharged: Vec<String>,
    /// Jobs that are gone and were not removed for their age.
    pub lost: Vec<String>,
}

impl Audit {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        [&self.unsettled, &self.unreserved, &self.overdrawn, &self.overcharged, &self.lost]
            .iter()
            .all(|list| list.is_empty())
    }
}

const TRANSFER: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                        mode, key_id, created_at) \
                        SELECT id, 'reserve/' || round, 'available', 'reserved', CAST($2 AS BIGINT), project_id, mode, \
                        key_id, CAST($3 AS BIGINT) FROM jobs WHERE id = $1";
/// The same of a job that is just accepted, for which nobody needs to look.
const FIRST: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                     mode, key_id, created_at) VALUES ($1, 'reserve/1', 'available', 'reserved', $2, $3, $4, $5, $6)";
/// One unit for each step that succeeded and was not charged before.
const CHARGE: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                      mode, key_id, feature, model, created_at) \
                      SELECT j.id, 'use/' || s.position, 'reserved', 'used', 1, j.project_id, j.mode, j.key_id, \
                      s.feature, s.model, CAST($2 AS BIGINT) FROM steps s JOIN jobs j ON j.id = s.job_id \
                      WHERE s.job_id = $1 AND s.status = 'succeeded' ON CONFLICT (job_id, transfer) DO NOTHING";
/// The same of a pipeline: a step with parts costs nothing itself, and what was taken over (`units` 0) nothing at all.
const CHARGE_STEPS: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                            mode, key_id, feature, model, created_at) \
                            SELECT j.id, 'use/' || s.position, 'reserved', 'used', 1, j.project_id, j.mode, j.key_id, \
                            s.feature, s.model, CAST($2 AS BIGINT) FROM steps s JOIN jobs j ON j.id = s.job_id \
                            WHERE s.job_id = $1 AND s.status = 'succeeded' AND s.tasks IS NULL AND s.units > 0 \
                            ON CONFLICT (job_id, transfer) DO NOTHING";
/// A unit for each part that succeeded.
const CHARGE_TASKS: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                            mode, key_id, feature, model, created_at) \
                            SELECT j.id, 'use/' || t.position || '/' || t.number, 'reserved', 'used', 1, j.project_id, \
                            j.mode, j.key_id, t.feature, t.model, CAST($2 AS BIGINT) \
                            FROM tasks t JOIN jobs j ON j.id = t.job_id \
                            JOIN steps s ON s.job_id = t.job_id AND s.position = t.position AND s.units > 0 \
                            WHERE t.job_id = $1 AND t.status = 'succeeded' ON CONFLICT (job_id, transfer) DO NOTHING";
/// A transfer of nothing for each step: the statement shows them, without a price.
const DUPLICATE: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                         mode, key_id, feature, model, created_at) \
                         SELECT j.id, 'duplicate/' || s.position, 'reserved', 'used', 0, j.project_id, j.mode, \
                         j.key_id, s.feature, s.model, CAST($2 AS BIGINT) FROM steps s JOIN jobs j ON j.id = s.job_id \
                         WHERE s.job_id = $1 ON CONFLICT (job_id, transfer) DO NOTHING";
/// What is still reserved goes back. Every transfer of a job has `reserved` on one of its sides.
const RELEASE: &str = "INSERT INTO ledger_transfers (job_id, transfer, from_account, to_account, units, project_id, \
                       mode, key_id, created_at) \
                       SELECT j.id, 'release/' || j.round, 'reserved', 'available', open.units, j.project_id, j.mode, \
                       j.key_id, CAST($2 AS BIGINT) FROM jobs j JOIN (SELECT job_id, \
                       CAST(SUM(CASE WHEN to_account = 'reserved' THEN units ELSE -units END) AS BIGINT) AS units \
                       FROM ledger_transfers WHERE job_id = $1 GROUP BY job_id) open ON open.job_id = j.id \
                       WHERE open.units > 0";
const BALANCE: &str = "SELECT CAST(COALESCE(SUM(CASE WHEN to_account = 'reserved' THEN units \
                       WHEN from_account = 'reserved' THEN -units ELSE 0 END), 0) AS BIGINT), \
                       CAST(COALESCE(SUM(CASE WHEN to_account = 'used' THEN units ELSE 0 END), 0) AS BIGINT) \
                       FROM ledger_transfers WHERE project_id = $1 AND mode = $2";
const OPEN: &str = "SELECT job_id FROM ledger_transfers GROUP BY job_id \
                    HAVING SUM(CASE WHEN to_account = 'reserved' THEN units ELSE -units END) < 0 LIMIT 1000";
/// Jobs that were removed had ended.
const UNSETTLED: &str = "SELECT l.job_id FROM ledger_transfers l LEFT JOIN jobs j ON j.id = l.job_id \
                         WHERE j.id IS NULL OR (j.finished_at IS NOT NULL AND j.status NOT IN ('pending', 'processing')) \
                         GROUP BY l.job_id \
                         HAVING SUM(CASE WHEN l.to_account = 'reserved' THEN l.units ELSE -l.units END) <> 0 LIMIT 1000";
const UNRESERVED: &str = "SELECT j.id FROM jobs j LEFT JOIN ledger_transfers l ON l.job_id = j.id \
                          AND l.transfer = 'reserve/' || j.round WHERE l.job_id IS NULL LIMIT 1000";
/// The steps of a job that was removed are gone.
const OVERCHARGED: &str = "SELECT l.job_id FROM ledger_transfers l JOIN jobs j ON j.id = l.job_id LEFT JOIN steps s ON s.job_id = l.job_id \
                           AND l.transfer = 'use/' || s.position AND s.status = 'succeeded' \
                           LEFT JOIN tasks t ON t.job_id = l.job_id \
                           AND l.transfer = 'use/' || t.position || '/' || t.number AND t.status = 'succeeded' \
                           WHERE l.to_account = 'used' AND l.units > 0 AND s.job_id IS NULL AND t.job_id IS NULL LIMIT 1000";

/// The last transfer is of the job's end: no job that ended later was removed.
const LOST: &str = "SELECT l.job_id FROM ledger_transfers l LEFT JOIN jobs j ON j.id = l.job_id WHERE j.id IS NULL \
                    GROUP BY l.job_id HAVING MAX(l.created_at) >= \
                    COALESCE((SELECT ended_before FROM removals WHERE what = 'jobs'), 0) LIMIT 1000";

/// Holds a job's price.
pub(crate) fn reserve((job, units): (JobId, u64), now: Timestamp) -> Statement {
    (TRANSFER, vec![job.to_string().into(), (units as i64).into(), times::micros(now).into()])
}

/// Holds the price of a job that is just accepted: what each step may cost.
pub(crate) fn reserve_new(job: &NewJob, now: Timestamp) -> Statement {
    let row = [
        job.id.to_string().into(),
        (job.units() as i64).into(),
        job.project.to_string().into(),
        job.mode.name().into(),
        job.key.map(|key| key.to_string()).into(),
        times::micros(now).into(),
    ];
    (FIRST, row.into())
}

/// Charges the steps that succeeded: each once, however often this is done.
pub(crate) fn charge(job: JobId, now: Timestamp) -> Statement {
    (CHARGE, vec![job.to_string().into(), times::micros(now).into()])
}

/// The same of a pipeline, by its steps and their parts.
pub(crate) fn charge_parts(job: JobId, now: Timestamp) -> [Statement; 2] {
    let of = || vec![job.to_string().into(), times::micros(now).into()];
    [(CHARGE_STEPS, of()), (CHARGE_TASKS, of())]
}

/// Notes the steps that were answered from another job.
pub(crate) fn note_duplicate(job: JobId, now: Timestamp) -> Statement {
    (DUPLICATE, vec![job.to_string().into(), times::micros(now).into()])
}

/// Gives back what an ended job still holds.
pub(crate) fn release(job: JobId, now: Timestamp) -> Statement {
    (RELEASE, vec![job.to_string().into(), times::micros(now).into()])
}

impl Store {
    /// Units of a project.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn balance(&self, project: ProjectId, mode: Mode) -> Result<Balance, StoreError> {
        let row = self.database.read(move |transaction| {
            transaction.query_one(BALANCE, &[project.to_string().into(), mode.name().into()])
        });
        let Some(row) = row.await? else { return Ok(Balance::default()) };
        Ok(Balance { reserved: row.integer(0)?, used: row.integer(1)? })
    }

    /// Whether every job has reserved what it may cost, was charged for what succeeded, gave the rest back, and is there
    /// until its time is over.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit(&self) -> Result<Audit, StoreError> {
        self.database
            .read(|transaction| {
                let mut jobs = |sql| -> Result<Vec<String>, StoreError> {
                    transaction.query(sql, &[])?.iter().map(|row| row.text(0)).collect()
                };
                Ok(Audit {
                    unsettled: jobs(UNSETTLED)?,
                    unreserved: jobs(UNRESERVED)?,
                    overdrawn: jobs(OPEN)?,
                    overcharged: jobs(OVERCHARGED)?,
                    lost: jobs(LOST)?,
                })
            })
            .await
    }
}
