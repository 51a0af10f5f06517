//! Hosts that requests name: each has an endpoint, for as long as somebody names it.

use jiff::{SignedDuration, Timestamp};

use crate::{Store, StoreError, database::Value, times};

/// That a host was named may be written down so much earlier than a job is that names it: to the hour, and a body takes its time.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

pub(super) const NAMED: &str = "UPDATE webhook_endpoints SET named_at = $1 WHERE id = $2";
const UNNOTED: &str =
    "SELECT id FROM webhook_endpoints WHERE kind = 'requests' AND named_at IS NULL LIMIT $1";
/// A job that has not ended may still be told there, and so may a batch that has not, or not long ago. `|| ''` keeps SQLite from
/// reading all jobs of the project by their own index.
const UNNAMED: &str = "SELECT e.id FROM webhook_endpoints e WHERE e.kind = 'requests' AND e.named_at < $1 \
     AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id) \
     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.status = 'pending' AND j.project_id = e.project_id \
     AND j.mode || '' = e.mode AND j.created_at < $2) \
     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.status = 'processing' AND j.lease_until > 0 \
     AND j.project_id || '' = e.project_id AND j.mode = e.mode AND j.created_at < $2) \
     AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.project_id = e.project_id AND b.mode = e.mode \
     AND b.created_at < $2 AND (b.finished_at IS NULL OR b.finished_at >= $1)) \
     ORDER BY e.named_at LIMIT $3";
const REMOVE: &str = "DELETE FROM webhook_endpoints WHERE id = $1 AND kind = 'requests' AND named_at < $2 \
     AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = $1) RETURNING id";

impl Store {
    /// Removes hosts that no request named since then and nobody is told at, at most so many. How many. One of which it was never
    /// written down that it was named counts as named now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sweep_hosts(
        &self,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let limit: Value = i64::from(limit).into();
        let page = [times::micros(before).into(), times::micros(before + GRACE).into(), limit.clone()];
        let found = self.database.read(move |transaction| {
            let unnoted = transaction.query(UNNOTED, std::slice::from_ref(&limit))?;
            Ok((unnoted, transaction.query(UNNAMED, &page)?))
        });
        let (unnoted, unnamed) = found.await?;
        let mut statements = Vec::new();
        for row in &unnoted {
            statements.push((NAMED, vec![times::micros(now).into(), row.text(0)?.into()]));
        }
        for row in &unnamed {
            statements.push((REMOVE, vec![row.text(0)?.into(), times::micros(before).into()]));
        }
        if statements.is_empty() {
            return Ok(0);
        }
        let done = self.database.write(move |transaction| transaction.query_all(&statements)).await?;
        Ok(done.iter().map(|removed| removed.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn a_sweep_looks_at_few_jobs() {
        let plans = plans(&[UNNAMED, REMOVE]);
        assert_eq!(plans.iter().find(|line| line.starts_with("SCAN")), None, "{plans:#?}");
        for index in ["webhook_endpoints_named", "jobs_pending_by_line", "jobs_leased"] {
            assert!(plans.iter().any(|line| line.contains(index)), "{index}: {plans:#?}");
        }
    }
}
