//! Leases of endpoints: one process at a time sends to each. A token only grows with each lease, and who writes with an older
//! one changes nothing (fencing).

use eyebolt_types::id::{EndpointId, ProjectId};
use jiff::Timestamp;

use crate::{
    Endpoint, Lease, Store, StoreError,
    database::{Row, Value},
    endpoint::{self, columns},
    times,
};

/// An endpoint that something is due to and nobody sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueEndpoint {
    /// Which.
    pub id: EndpointId,
    /// Whose it is.
    pub project: ProjectId,
    /// When the oldest of what is due to it was due.
    pub due_at: Timestamp,
}

/// An endpoint that this process sends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The fencing token: greater than every earlier one of this endpoint.
    pub token: i64,
}

/// The longest waiting one of each project, then the second of each, and so on.
const DUE: &str = "SELECT id, project_id, oldest FROM (SELECT id, project_id, oldest, \
     ROW_NUMBER() OVER (PARTITION BY project_id ORDER BY oldest, id) AS place FROM (SELECT e.id, e.project_id, \
     (SELECT MIN(d.next_at) FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.next_at IS NOT NULL) \
     AS oldest FROM webhook_endpoints e WHERE e.state = 'enabled' \
     AND (e.lease_until IS NULL OR e.lease_until < $1) \
     AND (e.throttled_until IS NULL OR e.throttled_until <= $1)) AS waiting WHERE oldest <= $1) AS ranked \
     ORDER BY place, oldest, id LIMIT $2";
const CLAIM: &str = concat!(
    "UPDATE webhook_endpoints SET lease_owner = $3, lease_until = $4, lease_token = lease_token + 1 \
     WHERE id IN (SELECT e.id FROM webhook_endpoints e WHERE e.id = $2 AND e.state = 'enabled' \
     AND (e.lease_until IS NULL OR e.lease_until < $1) \
     AND (e.throttled_until IS NULL OR e.throttled_until <= $1) FOR UPDATE SKIP LOCKED) RETURNING ",
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

impl Store {
    /// Endpoints that something is due to and nobody sends to: projects in turns, the one that waits longest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due_endpoints(&self, limit: u32, now: Timestamp) -> Result<Vec<DueEndpoint>, StoreError> {
        let sought = [times::micros(now).into(), i64::from(limit).into()];
        let rows = self.database.read(move |transaction| transaction.query(DUE, &sought)).await?;
        rows.iter().map(due).collect()
    }

    /// Leases these endpoints, but for those that somebody else was quicker with.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim_endpoints(
        &self,
        ids: Vec<EndpointId>,
        lease: Lease,
        now: Timestamp,
    ) -> Result<Vec<LeasedEndpoint>, StoreError> {
        self.database
            .write(move |transaction| {
                let claim = |id: &EndpointId| -> Vec<Value> {
                    vec![
                        times::micros(now).into(),
                        id.to_string().into(),
                        lease.owner.as_str().into(),
                        times::micros(lease.until).into(),
                    ]
                };
                let claims: Vec<_> = ids.iter().map(|id| (CLAIM, claim(id))).collect();
                transaction.query_all(&claims)?.iter().flatten().map(leased).collect()
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
}

fn due(row: &Row) -> Result<DueEndpoint, StoreError> {
    Ok(DueEndpoint {
        id: row.parsed(0)?,
        project: row.parsed(1)?,
        due_at: times::timestamp(row.integer(2)?)?,
    })
}

fn leased(row: &Row) -> Result<LeasedEndpoint, StoreError> {
    Ok(LeasedEndpoint { endpoint: endpoint::endpoint(row)?, token: row.integer(endpoint::COLUMNS)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn of_what_is_due_to_an_endpoint_the_oldest_alone_is_read() {
        let plans = plans(&[DUE]);
        let oldest = "SEARCH d USING COVERING INDEX webhook_deliveries_due (endpoint_id=? AND next_at>?)";
        assert!(plans.iter().any(|line| line == oldest), "{plans:#?}");
    }
}
