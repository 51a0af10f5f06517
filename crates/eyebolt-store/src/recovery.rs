//! Jobs whose worker is gone: given back to be run again, or, where they killed their workers too often, handed over
//! to be ended. No job goes round for ever.

use jiff::Timestamp;

use crate::{Lease, LeasedJob, Store, StoreError, job::columns, run::all_leased, times};

/// Crashes of its worker after which a job is quarantined.
pub const MAX_CRASHES: u32 = 3;

/// At most so many jobs in one transaction.
const BATCH: i64 = 500;

/// What became of jobs whose worker was gone.
#[derive(Debug, Default)]
pub struct Reaped {
    /// So many wait for a worker again.
    pub given_back: usize,
    /// These killed their worker once too often, or are past their deadline: they are the caller's, who must close
    /// them.
    pub yours: Vec<LeasedJob>,
    /// Whether there may be more.
    pub more: bool,
}

/// Jobs whose lease is over, or whose owner's name begins with `$3`; never the caller's own. No `LIKE`: names are no
/// patterns, and SQLite's knows no case. Sorted by an expression, since no index is in its order: by the name alone all jobs that
/// there ever were would be gone through in the order of their names, instead of the few that run.
macro_rules! lost {
    ($crashes:literal, $locked:literal) => {
        concat!(
            "(SELECT id FROM jobs WHERE status = 'processing' AND crashes ",
            $crashes,
            " $2 AND lease_until > 0 AND (lease_until < $1 OR ($3 <> '' AND lease_owner <> $5 \
             AND substr(lease_owner, 1, length($3)) = $3)) ORDER BY id || '' LIMIT $4 FOR UPDATE",
            $locked,
            ")"
        )
    };
}

/// Gives back what is lost.
macro_rules! give_back {
    ($locked:literal) => {
        concat!(
            "UPDATE jobs SET status = 'pending', crashes = crashes + 1, not_before = $1, lease_owner = NULL, \
             lease_until = NULL WHERE id IN ",
            lost!("<", $locked),
            " RETURNING id"
        )
    };
}

/// Takes over what killed its workers too often.
macro_rules! take_over {
    ($locked:literal) => {
        concat!(
            "UPDATE jobs SET crashes = crashes + 1, lease_owner = $5, lease_until = $6, lease_token = lease_token + 1 \
             WHERE id IN ",
            lost!(">=", $locked),
            " RETURNING ",
            columns!()
        )
    };
}

const LOST: &str = give_back!(" SKIP LOCKED");
const POISON: &str = take_over!(" SKIP LOCKED");
/// What a dead run was about to write may be on its way still, and holds the row for that long: to be waited for, since nobody
/// looks at that run's jobs again before their leases end.
const LOST_BY_THE_DEAD: &str = give_back!("");
const POISON_OF_THE_DEAD: &str = take_over!("");
const OVERDUE: &str = concat!(
    "UPDATE jobs SET status = 'processing', lease_owner = $2, lease_until = $3, lease_token = lease_token + 1 \
     WHERE id IN (SELECT id FROM jobs WHERE status = 'pending' AND deadline_at < $1 LIMIT $4 \
     FOR UPDATE SKIP LOCKED) RETURNING ",
    columns!()
);

impl Store {
    /// Gives jobs back whose lease is over, or whose owner's name begins with `gone` and is not the caller's; takes
    /// those over that must end: for `lease`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn reap(
        &self,
        gone: Option<String>,
        lease: Lease,
        now: Timestamp,
    ) -> Result<Reaped, StoreError> {
        self.database
            .write(move |transaction| {
                let (now, until) = (times::micros(now), times::micros(lease.until));
                let lost = || {
                    let crashes = i64::from(MAX_CRASHES - 1);
                    let gone = gone.as_deref().unwrap_or_default();
                    [now.into(), crashes.into(), gone.into(), BATCH.into(), lease.owner.as_str().into()]
                };
                let (lost_jobs, poisonous) =
                    if gone.is_some() { (LOST_BY_THE_DEAD, POISON_OF_THE_DEAD) } else { (LOST, POISON) };
                let poison: Vec<_> = lost().into_iter().chain([until.into()]).collect();
                let mut rows = transaction.query(poisonous, &poison)?;
                let overdue = [now.into(), lease.owner.as_str().into(), until.into(), BATCH.into()];
                rows.extend(transaction.query(OVERDUE, &overdue)?);
                let yours = all_leased(transaction, &rows)?;
                let given_back = transaction.query(lost_jobs, &lost())?.len();
                let more = [given_back, yours.len()].iter().any(|count| *count as i64 >= BATCH);
                Ok(Reaped { given_back, yours, more })
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn only_jobs_that_run_or_wait_too_long_are_looked_at() {
        let statements = [LOST, POISON, LOST_BY_THE_DEAD, POISON_OF_THE_DEAD, OVERDUE];
        for statement in statements {
            let plans = plans(&[statement]);
            let reads = |line: &&String| line.starts_with("SEARCH") || line.starts_with("SCAN");
            let reads: Vec<_> = plans.iter().filter(reads).collect();
            let named = [
                "sqlite_autoindex_jobs_1 (id=?)",
                "jobs_leased (lease_until>?)",
                "jobs_overdue (deadline_at<?)",
            ];
            assert_eq!(reads.len(), 2, "{plans:#?}");
            assert!(reads.iter().all(|line| named.iter().any(|name| line.ends_with(name))), "{plans:#?}");
        }
    }
}
