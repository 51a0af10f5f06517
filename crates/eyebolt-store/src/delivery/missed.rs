//! What an endpoint did not get is begun anew. Found in reads, a page at a time, and only what was found is written: whoever has
//! nothing to send again holds up nobody who writes.

use eyebolt_types::{
    Mode,
    id::{EndpointId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Store, StoreError,
    database::{Row, Statement, Value},
    times,
};

/// Rows that are looked at in one read, and so many are written at once at most.
const PAGE: i64 = 500;

/// Deliveries behind `($2, $3)`, and whether each was not taken and is not on its way for the first time.
const FAILED: &str = "SELECT event_id, created_at, \
     CAST(CASE WHEN state <> 'delivered' AND (next_at IS NULL OR attempts > 0) THEN 1 ELSE 0 END AS BIGINT), version \
     FROM webhook_deliveries WHERE endpoint_id = $1 AND (created_at, event_id) > ($2, $3) \
     ORDER BY created_at, event_id LIMIT $4";
const AGAIN: &str = "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = $3, \
     finished_at = NULL WHERE endpoint_id = $1 AND event_id = $2 AND state <> 'delivered' \
     AND (next_at IS NULL OR attempts > 0) RETURNING event_id";
/// Events behind `($4, $5, $6)`, and whether the endpoint wants each and it was never recorded for it.
const EVENTS: &str = "SELECT v.subject, v.created_at, \
     CAST(CASE WHEN v.type <> 'webhook.test' AND (v.batch_id IS NULL OR v.batch_id = v.subject) \
     AND (e.events = '*' OR replace(e.events, ' ' || v.type || ' ', '') <> e.events) \
     AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.event_id = v.id) \
     THEN 1 ELSE 0 END AS BIGINT), v.version \
     FROM webhook_endpoints e JOIN events v ON v.project_id = e.project_id AND v.mode = e.mode \
     WHERE e.id = $1 AND v.project_id = $2 AND v.mode = $3 AND v.created_at >= $4 \
     AND (v.created_at, v.subject, v.version) > ($4, $5, $6) \
     ORDER BY v.created_at, v.subject, v.version LIMIT $7";
const RECORD: &str = "INSERT INTO webhook_deliveries \
     (endpoint_id, event_id, subject, version, type, state, next_at, created_at) \
     SELECT CAST($1 AS TEXT), v.id, v.subject, v.version, v.type, 'pending', CAST($2 AS BIGINT), v.created_at \
     FROM events v WHERE v.subject = $3 AND v.version = $4 ON CONFLICT DO NOTHING RETURNING event_id";
const HOLD: &str = "SELECT id FROM webhook_endpoints WHERE id = $1 FOR UPDATE";

/// How far a search has come: what is not later was looked at.
struct Reached {
    at: i64,
    name: String,
    version: i64,
}

impl Reached {
    /// Nothing was, that is not older than this. No name is empty.
    fn before(since: Timestamp) -> Self {
        Self { at: times::micros(since), name: String::new(), version: 0 }
    }
}

impl Store {
    /// Begins anew what an endpoint wants and did not get of the events since then, the oldest first: at most so many of those
    /// that failed, and as many that were never recorded for it. How many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn replay_since(
        &self,
        (project, mode, id): (ProjectId, Mode, EndpointId),
        (since, limit): (Timestamp, u32),
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (now, limit) = (times::micros(now), u64::from(limit));
        let endpoint = || -> Value { id.to_string().into() };
        let failed = |reached: &Reached| -> Statement {
            (FAILED, vec![endpoint(), reached.at.into(), reached.name.as_str().into(), PAGE.into()])
        };
        let again = |row: &Row| -> Result<Statement, StoreError> {
            Ok((AGAIN, vec![endpoint(), row.text(0)?.into(), now.into()]))
        };
        let missed = |reached: &Reached| -> Statement {
            let mut page = vec![endpoint(), project.to_string().into(), mode.name().into()];
            let (name, version) = (reached.name.as_str(), reached.version);
            page.extend::<[Value; 4]>([reached.at.into(), name.into(), version.into(), PAGE.into()]);
            (EVENTS, page)
        };
        let record = |row: &Row| -> Result<Statement, StoreError> {
            Ok((RECORD, vec![endpoint(), now.into(), row.text(0)?.into(), row.integer(3)?.into()]))
        };
        let replayed = self.begin_found(id, (since, limit), (failed, again)).await?;
        Ok(replayed + self.begin_found(id, (since, limit), (missed, record)).await?)
    }

    /// Goes through pages, and runs what `begin` makes of each row that has a 1 in its third column. How many rows that gave.
    async fn begin_found(
        &self,
        id: EndpointId,
        (since, limit): (Timestamp, u64),
        (page, begin): (impl Fn(&Reached) -> Statement, impl Fn(&Row) -> Result<Statement, StoreError>),
    ) -> Result<u64, StoreError> {
        let (mut reached, mut begun) = (Reached::before(since), 0);
        while begun < limit {
            let (sql, behind) = page(&reached);
            let rows = self.database.read(move |transaction| transaction.query(sql, &behind)).await?;
            let mut found = Vec::new();
            for row in &rows {
                if row.integer(2)? == 1 && begun + (found.len() as u64) < limit {
                    found.push(begin(row)?);
                }
            }
            if !found.is_empty() {
                begun += self.begin_all(id, found).await?;
            }
            let Some(last) = rows.last().filter(|_| rows.len() as i64 == PAGE) else { break };
            reached = Reached { at: last.integer(1)?, name: last.text(0)?, version: last.integer(3)? };
        }
        Ok(begun)
    }

    async fn begin_all(&self, id: EndpointId, found: Vec<Statement>) -> Result<u64, StoreError> {
        self.database
            .write(move |transaction| {
                // Whoever removes it waits, or it is gone.
                if transaction.query_one(HOLD, &[id.to_string().into()])?.is_none() {
                    return Ok(0);
                }
                Ok(transaction.query_all(&found)?.iter().map(|begun| begun.len() as u64).sum())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn no_page_reads_or_sorts_a_whole_table() {
        let plans = plans(&[FAILED, AGAIN, EVENTS, RECORD]);
        let bad = |line: &&String| line.starts_with("SCAN") || line.ends_with("TEMP B-TREE FOR ORDER BY");
        assert_eq!(plans.iter().find(bad), None, "{plans:#?}");
        for index in ["webhook_deliveries_by_time", "events_by_time"] {
            assert!(plans.iter().any(|line| line.contains(index)), "{index}: {plans:#?}");
        }
    }
}
