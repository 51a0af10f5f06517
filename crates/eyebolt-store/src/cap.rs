//! Limits that are decided as a job is accepted, in its transaction: how many jobs may be open at once, and how many units
//! a month may cost.
//!
//! Whoever accepts under such a limit locks the project's row first and keeps it until the commit: of two servers one waits
//! for the other. Several acceptances in one transaction see each other by what they claim. A project without such a limit
//! runs none of these statements.

use eyebolt_types::{
    LimitScope, Mode, Policy,
    id::{JobId, KeyId, ProjectId},
};
use jiff::{Timestamp, ToSpan, civil::Date, tz::Offset};

use crate::{
    Store, StoreError,
    database::{Row, Statement, Value},
    times,
};

/// A month of the calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Month {
    /// Its first instant.
    pub begins: Timestamp,
    /// The first instant of the next one.
    pub ends: Timestamp,
}

impl Month {
    /// The month in which this is.
    pub fn of(now: Timestamp) -> Self {
        let first = Offset::UTC.to_datetime(now).date().first_of_month();
        let instant = |date: Date| Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
        let next = first.checked_add(1.month());
        // The last month that there is has no next one.
        Self {
            begins: instant(first).unwrap_or(Timestamp::MIN),
            ends: next.and_then(instant).unwrap_or(Timestamp::MAX),
        }
    }
}

/// What a project or a key may have; none: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cap {
    /// Jobs that have not ended.
    pub concurrent_jobs: Option<u64>,
    /// Units that are reserved in a month, without those given back.
    pub units_per_month: Option<u64>,
    /// Whether the month's units are counted anew from the ledger first: its row may be from a time without this limit.
    pub recount: bool,
}

impl Cap {
    /// Whether nothing is limited.
    pub fn is_none(self) -> bool {
        self.concurrent_jobs.is_none() && self.units_per_month.is_none()
    }
}

/// The limits under which a job is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of the project and mode.
    pub project: Cap,
    /// Of the key.
    pub key: Cap,
}

/// A limit that would be crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun {
    /// Whose.
    pub scope: LimitScope,
    /// Which.
    pub policy: Policy,
    /// Its value.
    pub limit: u64,
    /// What is taken of it already.
    pub taken: u64,
    /// What would be needed.
    pub needed: u64,
}

impl Overrun {
    /// Whether there may be room later: what is needed is not more than all of it.
    pub fn may_pass(&self) -> bool {
        self.needed <= self.limit
    }
}

/// What is taken of limits, where they were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Jobs that have not ended.
    pub jobs: Option<u64>,
    /// Units of this month.
    pub units: Option<u64>,
}

/// Jobs of a holder that have not ended. Written so that SQLite, which does not know how many rows there are, takes the index
/// of the lines and that of the leases: they hold open jobs alone.
macro_rules! open_jobs {
    ($holder:literal, $project:literal, $mode:literal) => {
        concat!(
            "((SELECT COUNT(*) FROM jobs WHERE status = 'pending' AND project_id = ", $project,
            " AND class IN ('interactive', 'standard', 'batch') AND mode || '' = ", $mode,
            " AND (", $holder, " = ", $project, " OR key_id = ", $holder,
            ")) + (SELECT COUNT(*) FROM jobs WHERE status = 'processing' AND lease_until > 0 AND project_id || '' = ",
            $project, " AND mode || '' = ", $mode, " AND (", $holder, " = ", $project, " OR key_id = ", $holder,
            ")) + (SELECT COUNT(*) FROM job_claims WHERE holder = ", $holder, " AND mode = ", $mode, "))"
        )
    };
}

/// Units that the ledger knows of holder $1 of project $5 in mode $2, from $3 until before $4: reserved then, less what was
/// given back of that, but for what waits in `monthly_releases`.
macro_rules! ledger_units {
    () => {
        "(SELECT CAST(COALESCE(SUM(v.units - COALESCE(r.units, 0)), 0) AS BIGINT) FROM ledger_transfers v \
         LEFT JOIN ledger_transfers r ON r.job_id = v.job_id AND r.transfer = 'release/' || substr(v.transfer, 9) \
         WHERE v.project_id = CAST($5 AS TEXT) AND v.mode = $2 AND v.created_at >= $3 AND v.created_at < $4 \
         AND v.to_account = 'reserved' AND ($1 = CAST($5 AS TEXT) OR v.key_id = $1)) \
         + (SELECT CAST(COALESCE(SUM(p.units), 0) AS BIGINT) FROM monthly_releases p \
         WHERE p.holder = $1 AND p.mode = $2 AND p.begins_at = $3)"
    };
}

const LOCK: &str = "SELECT id FROM projects WHERE id = $1 FOR NO KEY UPDATE";
const FORGET: &str = "DELETE FROM monthly_units WHERE holder = $1 AND mode = $2 AND begins_at = $3";
const ENSURE: &str = concat!(
    "INSERT INTO monthly_units (holder, mode, begins_at, ends_at, units) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), \
     CAST($3 AS BIGINT), CAST($4 AS BIGINT), ",
    ledger_units!(),
    " WHERE NOT EXISTS (SELECT 1 FROM monthly_units m WHERE m.holder = $1 AND m.mode = $2 AND m.begins_at = $3)"
);
/// What was given back is marked, taken out and forgotten: what comes between two of these statements waits for the next time.
const MARK: &str = "UPDATE monthly_releases SET folded = 1 WHERE holder = $1 AND mode = $2";
const FOLD: &str = "UPDATE monthly_units SET units = units - (SELECT CAST(COALESCE(SUM(r.units), 0) AS BIGINT) \
                    FROM monthly_releases r WHERE r.holder = $1 AND r.mode = $2 AND r.begins_at = $3 AND r.folded = 1) \
                    WHERE holder = $1 AND mode = $2 AND begins_at = $3";
const SWEEP: &str = "DELETE FROM monthly_releases WHERE holder = $1 AND mode = $2 AND folded = 1";
const TAKE: &str = "UPDATE monthly_units SET units = units + CAST($4 AS BIGINT) WHERE holder = $1 AND mode = $2 \
                    AND begins_at = $3 AND units + CAST($4 AS BIGINT) <= CAST($5 AS BIGINT) RETURNING units";
const TAKEN: &str = "SELECT units FROM monthly_units WHERE holder = $1 AND mode = $2 AND begins_at = $3";
const BACK: &str = "UPDATE monthly_units SET units = units - CAST($4 AS BIGINT) WHERE holder = $1 AND mode = $2 \
                    AND begins_at = $3";
const CLAIM: &str = concat!(
    "INSERT INTO job_claims (holder, mode, job_id) SELECT CAST($1 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT) WHERE ",
    open_jobs!("$1", "CAST($2 AS TEXT)", "$3"),
    " < CAST($5 AS BIGINT) RETURNING job_id"
);
const UNCLAIM: &str = "DELETE FROM job_claims WHERE job_id = $1";
const OPEN: &str = concat!("SELECT ", open_jobs!("CAST($1 AS TEXT)", "CAST($2 AS TEXT)", "CAST($3 AS TEXT)"));
const UNITS: &str = concat!(
    "SELECT COALESCE((SELECT m.units FROM monthly_units m WHERE m.holder = $1 AND m.mode = $2 AND m.begins_at = $3), ",
    ledger_units!(),
    ") - (SELECT CAST(COALESCE(SUM(w.units), 0) AS BIGINT) FROM monthly_releases w WHERE w.holder = $1 AND w.mode = $2 \
     AND w.begins_at = $3)"
);
/// What a job gave back at its end, for the rows in which it was counted.
const RELEASED: &str = "INSERT INTO monthly_releases (holder, mode, begins_at, job_id, transfer, units, folded) \
                        SELECT m.holder, m.mode, m.begins_at, r.job_id, r.transfer, r.units, 0 FROM jobs j \
                        JOIN ledger_transfers r ON r.job_id = j.id AND r.transfer = 'release/' || j.round \
                        JOIN ledger_transfers v ON v.job_id = j.id AND v.transfer = 'reserve/' || j.round \
                        JOIN monthly_units m ON m.holder IN (j.project_id, j.key_id) AND m.mode = j.mode \
                        AND m.begins_at <= v.created_at AND m.ends_at > v.created_at WHERE j.id = $1";
/// The rows of a project and of its keys.
const DOUBT: &str = "DELETE FROM monthly_units WHERE holder = $1 OR holder IN (SELECT id FROM api_keys WHERE project_id = $1)";

/// A job that wants to be accepted, and under which limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capped {
    pub(crate) job: JobId,
    pub(crate) project: ProjectId,
    pub(crate) key: Option<KeyId>,
    pub(crate) mode: Mode,
    pub(crate) units: u64,
    pub(crate) caps: Caps,
    pub(crate) now: Timestamp,
}

/// What one answer is about.
type Asked = (LimitScope, Policy, u64);

impl Capped {
    /// To be run before anything is looked at.
    pub(crate) fn lock(project: ProjectId) -> Statement {
        (LOCK, vec![project.to_string().into()])
    }

    /// Takes what the job needs of every limit. [`Capped::judge`] reads the answers.
    pub(crate) fn take(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        for (scope, policy, limit) in self.asked() {
            let holder = self.holder(scope);
            match policy {
                Policy::ConcurrentJobs => statements.extend(self.claim(&holder, limit)),
                _ => statements.extend(self.take_units((&holder, self.recounts(scope)), limit)),
            }
        }
        statements
    }

    /// What would be crossed, and what takes back what was taken all the same.
    pub(crate) fn judge(
        &self,
        answers: &[Vec<Row>],
    ) -> Result<Result<(), (Overrun, Vec<Statement>)>, StoreError> {
        let (mut rest, mut over, mut back) = (answers, None, vec![self.unclaim()]);
        for (scope, policy, limit) in self.asked() {
            let (needed, count) = match policy {
                Policy::ConcurrentJobs => (1, 2),
                _ => (self.units, if self.recounts(scope) { 7 } else { 6 }),
            };
            let (of_this, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            let [.., done, found] = of_this else { return Err(StoreError::Conflict) };
            if !done.is_empty() {
                if policy == Policy::UnitsPerMonth {
                    back.push((BACK, self.month_row(&self.holder(scope), &[self.units])));
                }
                continue;
            }
            let taken = found.first().ok_or(StoreError::Conflict)?.integer(0)?;
            over = over.or(Some(Overrun { scope, policy, limit, taken: taken.unsigned_abs(), needed }));
        }
        Ok(over.map_or(Ok(()), |over| Err((over, back))))
    }

    /// The job is there, and counts by itself.
    pub(crate) fn unclaim(&self) -> Statement {
        (UNCLAIM, vec![self.job.to_string().into()])
    }

    fn asked(&self) -> impl Iterator<Item = Asked> {
        let of = |scope, cap: Cap| {
            let jobs = cap.concurrent_jobs.map(|limit| (scope, Policy::ConcurrentJobs, limit));
            let units = cap.units_per_month.map(|limit| (scope, Policy::UnitsPerMonth, limit));
            jobs.into_iter().chain(units)
        };
        let key = if self.key.is_some() { self.caps.key } else { Cap::default() };
        of(LimitScope::Project, self.caps.project).chain(of(LimitScope::Key, key))
    }

    fn holder(&self, scope: LimitScope) -> String {
        holder(scope, self.project, self.key)
    }

    fn claim(&self, holder: &str, limit: u64) -> [Statement; 2] {
        let whose = || vec![holder.into(), self.project.to_string().into(), self.mode.name().into()];
        let mut claim = whose();
        claim.extend([self.job.to_string().into(), whole(limit)]);
        [(CLAIM, claim), (OPEN, whose())]
    }

    fn recounts(&self, scope: LimitScope) -> bool {
        match scope {
            LimitScope::Project => self.caps.project.recount,
            LimitScope::Key => self.caps.key.recount,
        }
    }

    fn take_units(&self, (holder, recount): (&str, bool), limit: u64) -> Vec<Statement> {
        let row = |more: &[u64]| self.month_row(holder, more);
        let short = || vec![holder.into(), self.mode.name().into()];
        let forget = recount.then(|| (FORGET, row(&[])));
        let rest = [
            (ENSURE, month_of((holder, self.project, self.mode), Month::of(self.now))),
            (MARK, short()),
            (FOLD, row(&[])),
            (SWEEP, short()),
            (TAKE, row(&[self.units, limit])),
            (TAKEN, row(&[])),
        ];
        forget.into_iter().chain(rest).collect()
    }

    fn month_row(&self, holder: &str, more: &[u64]) -> Vec<Value> {
        let begins = times::micros(Month::of(self.now).begins);
        let row = [holder.into(), self.mode.name().into(), begins.into()];
        row.into_iter().chain(more.iter().map(|&number| whole(number))).collect()
    }
}

impl Store {
    /// What a project and a key have of their limits now; only what is limited is looked at.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn held(
        &self,
        (project, key, mode): (ProjectId, KeyId, Mode),
        caps: Caps,
        now: Timestamp,
    ) -> Result<(Held, Held), StoreError> {
        self.database
            .read(move |transaction| {
                let mut of = |scope, cap: Cap| -> Result<Held, StoreError> {
                    let holder = holder(scope, project, Some(key));
                    let whose =
                        || vec![holder.as_str().into(), project.to_string().into(), mode.name().into()];
                    let mut number = |sql, parameters: Vec<Value>| {
                        let row = transaction.query_one(sql, &parameters)?;
                        row.map_or(Ok(0), |row| row.integer(0)).map(|found| found.max(0).unsigned_abs())
                    };
                    let jobs = cap.concurrent_jobs.map(|_| number(OPEN, whose())).transpose()?;
                    let month = || month_of((&holder, project, mode), Month::of(now));
                    let units = cap.units_per_month.map(|_| number(UNITS, month())).transpose()?;
                    Ok(Held { jobs, units })
                };
                Ok((of(LimitScope::Project, caps.project)?, of(LimitScope::Key, caps.key)?))
            })
            .await
    }
}

/// What an ended job gave back: after [`crate::ledger::release`].
pub(crate) fn released(job: JobId) -> Statement {
    (RELEASED, vec![job.to_string().into()])
}

/// What was counted of a project's months may have missed something from now on.
pub(crate) fn doubt(project: ProjectId) -> Statement {
    (DOUBT, vec![project.to_string().into()])
}

fn holder(scope: LimitScope, project: ProjectId, key: Option<KeyId>) -> String {
    match (scope, key) {
        (LimitScope::Key, Some(key)) => key.to_string(),
        _ => project.to_string(),
    }
}

fn month_of((holder, project, mode): (&str, ProjectId, Mode), month: Month) -> Vec<Value> {
    vec![
        holder.into(),
        mode.name().into(),
        times::micros(month.begins).into(),
        times::micros(month.ends).into(),
        project.to_string().into(),
    ]
}

fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_that_of_the_calendar() {
        let month = |now: &str| {
            let month = Month::of(now.parse().unwrap());
            (month.begins.to_string(), month.ends.to_string())
        };
        let of = |begins: &str, ends: &str| (begins.to_owned(), ends.to_owned());
        assert_eq!(month("2028-02-29T23:59:59Z"), of("2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"));
        assert_eq!(month("2026-12-31T23:59:59.999999Z"), of("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"));
        assert_eq!(month("2027-01-01T00:00:00Z"), of("2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"));
    }
}
