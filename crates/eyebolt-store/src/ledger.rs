//! The ledger: double entry. A price is reserved when a job is accepted, and used or released when it ends, in the
//! transactions that do so.

use eyebolt_types::{Mode, id::ProjectId};
use jiff::Timestamp;

use crate::{NewJob, Store, StoreError, database::Transaction, times};

/// Units of a project in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Held by jobs that have not ended.
    pub reserved: i64,
    /// Charged.
    pub used: i64,
}

/// What the self-audit found. All lists are empty where the ledger is sound.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Jobs with a transfer whose units don't add up to nothing.
    pub unbalanced: Vec<String>,
    /// Jobs that ended with units still reserved.
    pub unsettled: Vec<String>,
    /// Jobs without a reservation.
    pub unreserved: Vec<String>,
}

const ENTRY: &str = "INSERT INTO ledger_entries (job_id, kind, account, units, project_id, mode, key_id, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const SETTLE: &str = "INSERT INTO ledger_entries (job_id, kind, account, units, project_id, mode, key_id, created_at) \
                      SELECT job_id, $2, $3, CAST($4 AS BIGINT), project_id, mode, key_id, CAST($5 AS BIGINT) FROM ledger_entries \
                      WHERE job_id = $1 AND kind = 'reserve' AND account = 'reserved'";
const RESERVED: &str =
    "SELECT units FROM ledger_entries WHERE job_id = $1 AND kind = 'reserve' AND account = 'reserved'";
const BALANCE: &str = "SELECT account, CAST(SUM(units) AS BIGINT) FROM ledger_entries \
                       WHERE project_id = $1 AND mode = $2 GROUP BY account";
const UNBALANCED: &str =
    "SELECT job_id FROM ledger_entries GROUP BY job_id, kind HAVING SUM(units) <> 0 LIMIT 1000";
const UNSETTLED: &str = "SELECT j.id FROM jobs j JOIN ledger_entries l ON l.job_id = j.id AND l.account = 'reserved' \
                         WHERE j.finished_at IS NOT NULL GROUP BY j.id HAVING SUM(l.units) <> 0 LIMIT 1000";
const UNRESERVED: &str = "SELECT j.id FROM jobs j LEFT JOIN ledger_entries l ON l.job_id = j.id \
                          AND l.kind = 'reserve' WHERE l.job_id IS NULL LIMIT 1000";

/// Holds a job's price.
pub(crate) fn reserve(
    transaction: &mut dyn Transaction,
    job: &NewJob,
    now: Timestamp,
) -> Result<(), StoreError> {
    for (account, units) in [("available", -(job.units as i64)), ("reserved", job.units as i64)] {
        let row = [
            job.id.to_string().into(),
            "reserve".into(),
            account.into(),
            units.into(),
            job.project.to_string().into(),
            job.mode.name().into(),
            job.key.map(|key| key.to_string()).into(),
            times::micros(now).into(),
        ];
        transaction.execute(ENTRY, &row)?;
    }
    Ok(())
}

/// Ends a reservation: `used` units are charged, at most what was reserved, and the rest is released.
pub(crate) fn settle(
    transaction: &mut dyn Transaction,
    (job, used): (&str, u64),
    now: Timestamp,
) -> Result<(), StoreError> {
    let reserved = transaction.query_one(RESERVED, &[job.into()])?;
    let reserved =
        reserved.ok_or_else(|| StoreError::Corrupt { what: format!("{job} has no reservation") })?;
    let reserved = reserved.integer(0)?;
    let used = (used as i64).min(reserved);
    for (kind, account, units) in [("use", "used", used), ("release", "available", reserved - used)] {
        if units == 0 {
            continue;
        }
        for (account, units) in [("reserved", -units), (account, units)] {
            let row = [job.into(), kind.into(), account.into(), units.into(), times::micros(now).into()];
            transaction.execute(SETTLE, &row)?;
        }
    }
    Ok(())
}

impl Store {
    /// Units of a project.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn balance(&self, project: ProjectId, mode: Mode) -> Result<Balance, StoreError> {
        let rows = self.database.read(move |transaction| {
            transaction.query(BALANCE, &[project.to_string().into(), mode.name().into()])
        });
        let mut balance = Balance::default();
        for row in rows.await? {
            match row.text(0)?.as_str() {
                "reserved" => balance.reserved = row.integer(1)?,
                "used" => balance.used = row.integer(1)?,
                _ => {}
            }
        }
        Ok(balance)
    }

    /// Whether every transfer balances and every ended job is settled.
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
                    unbalanced: jobs(UNBALANCED)?,
                    unsettled: jobs(UNSETTLED)?,
                    unreserved: jobs(UNRESERVED)?,
                })
            })
            .await
    }
}
