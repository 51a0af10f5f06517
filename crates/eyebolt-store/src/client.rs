//! How clients behave: counts by key and hour, what programs they are, and when they ran away.

use eyebolt_types::{
    Mode,
    id::{KeyId, ProjectId, RunawayId},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Store, StoreError,
    database::{Row, Transaction, Value},
    times,
};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Programs that are kept apart for each key and day; further ones are [`OTHER_AGENT`].
pub const MOST_AGENTS: usize = 20;

/// What programs are counted as that are too many.
pub const OTHER_AGENT: &str = "other";

/// For how long all of it is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// An end of a client's time is told every few seconds; where none was told for so long, its server has died.
const LOST: SignedDuration = SignedDuration::from_mins(1);

/// Times of running away that are shown of a key, the latest first.
const SHOWN_RUNAWAYS: i64 = 10;

/// What was counted of a key's clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// All requests.
    pub requests: u64,
    /// Those that may start work.
    pub submissions: u64,
    /// Those whose idempotency key was known.
    pub retries: u64,
    /// Those with an image that was seen before.
    pub duplicates: u64,
    /// Those that the client has to do otherwise: 4xx but for 429.
    pub client_errors: u64,
    /// Those that were told before that they can't succeed.
    pub final_repeats: u64,
    /// Those that were told to come later: 429 and 503.
    pub refusals: u64,
    /// Those that came before they were told to.
    pub early_returns: u64,
    /// Those that failed by the server's fault: 5xx but for 503.
    pub server_errors: u64,
}

impl ClientCounts {
    /// In the order of the columns.
    fn columns(&mut self) -> [&mut u64; 9] {
        let Self {
            requests,
            submissions,
            retries,
            duplicates,
            client_errors,
            final_repeats,
            refusals,
            early_returns,
            server_errors,
        } = self;
        [
            requests,
            submissions,
            retries,
            duplicates,
            client_errors,
            final_repeats,
            refusals,
            early_returns,
            server_errors,
        ]
    }
}

impl std::ops::AddAssign for ClientCounts {
    fn add_assign(&mut self, mut more: Self) {
        for (count, more) in self.columns().into_iter().zip(more.columns()) {
            *count += *more;
        }
    }
}

/// What was counted of a key within an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTally {
    /// Whose.
    pub key: KeyId,
    /// An instant of the hour.
    pub at: Timestamp,
    /// How much.
    pub counts: ClientCounts,
    /// Requests by program.
    pub agents: Vec<(String, u64)>,
}

/// A time in which a client ran away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRunaway {
    /// Its name.
    pub id: RunawayId,
    /// The key that the client shows.
    pub key: KeyId,
    /// What it did.
    pub cause: String,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many strikes it got.
    pub strikes: u64,
    /// How many requests were refused for it.
    pub refused: u64,
}

/// What a server has seen of clients since it wrote last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientNotes {
    /// To be added.
    pub tallies: Vec<ClientTally>,
    /// As they stand.
    pub runaways: Vec<ClientRunaway>,
}

/// How the clients of a key behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHealth {
    /// The key.
    pub key: KeyId,
    /// Its project.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// What people call the key.
    pub name: String,
    /// How much.
    pub counts: ClientCounts,
    /// Requests by program, the most first.
    pub agents: Vec<(String, u64)>,
    /// When they ran away, the latest first, at most ten.
    pub runaways: Vec<ClientRunaway>,
}

const COUNT: &str = "INSERT INTO client_hours (key_id, hour, requests, submissions, retries, duplicates, client_errors, \
                     final_repeats, refusals, early_returns, server_errors) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                     ON CONFLICT (key_id, hour) DO UPDATE SET requests = client_hours.requests + $3, \
                     submissions = client_hours.submissions + $4, retries = client_hours.retries + $5, \
                     duplicates = client_hours.duplicates + $6, client_errors = client_hours.client_errors + $7, \
                     final_repeats = client_hours.final_repeats + $8, refusals = client_hours.refusals + $9, \
                     early_returns = client_hours.early_returns + $10, \
                     server_errors = client_hours.server_errors + $11";
const KNOWN_AGENT: &str =
    "UPDATE client_agents SET requests = requests + $4 WHERE key_id = $1 AND day = $2 AND agent = $3";
const AGENTS_OF_DAY: &str = "SELECT COUNT(*) FROM client_agents WHERE key_id = $1 AND day = $2";
const NEW_AGENT: &str = "INSERT INTO client_agents (key_id, day, agent, requests) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (key_id, day, agent) DO UPDATE SET requests = client_agents.requests + $4";
const RUNAWAY: &str = "INSERT INTO client_runaways (id, key_id, cause, began_at, seen_at, ended_at, strikes, refused) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET seen_at = $5, \
                       ended_at = $6, strikes = $7, refused = $8";
const SWEEP_HOURS: &str = "DELETE FROM client_hours WHERE hour < $1";
const SWEEP_AGENTS: &str = "DELETE FROM client_agents WHERE day < $1";
const SWEEP_RUNAWAYS: &str = "DELETE FROM client_runaways WHERE seen_at < $1";

/// Who runs away first, then by what was sent in vain.
const HEALTH: &str = "SELECT h.key_id, k.project_id, k.mode, k.name, CAST(SUM(requests) AS BIGINT), \
                      CAST(SUM(submissions) AS BIGINT), CAST(SUM(retries) AS BIGINT), CAST(SUM(duplicates) AS BIGINT), \
                      CAST(SUM(client_errors) AS BIGINT), CAST(SUM(final_repeats) AS BIGINT), \
                      CAST(SUM(refusals) AS BIGINT), CAST(SUM(early_returns) AS BIGINT), \
                      CAST(SUM(server_errors) AS BIGINT), CAST(MAX(CASE WHEN EXISTS (SELECT 1 FROM client_runaways r \
                      WHERE r.key_id = h.key_id AND r.ended_at IS NULL AND r.seen_at > $2) THEN 1 ELSE 0 END) AS BIGINT), \
                      CAST(SUM(retries + client_errors + refusals) AS BIGINT) \
                      FROM client_hours h JOIN api_keys k ON k.id = h.key_id WHERE h.hour >= $1 \
                      AND (CAST($3 AS TEXT) IS NULL OR k.project_id = CAST($3 AS TEXT)) \
                      GROUP BY h.key_id, k.project_id, k.mode, k.name ORDER BY 14 DESC, 15 DESC, 1 LIMIT $4";
const AGENTS: &str = "SELECT agent, CAST(SUM(requests) AS BIGINT) FROM client_agents WHERE key_id = $1 AND day >= $2 \
                      GROUP BY agent ORDER BY 2 DESC, 1 LIMIT $3";
const RUNAWAYS: &str = "SELECT id, key_id, cause, began_at, seen_at, ended_at, strikes, refused FROM client_runaways \
                        WHERE key_id = $1 AND seen_at >= $2 ORDER BY began_at DESC, id LIMIT $3";

impl Store {
    /// Adds what was counted, tells how those who run away stand, and forgets what is ninety days old.
    ///
    /// # Errors
    /// Where the database fails; then nothing was added.
    pub async fn note_clients(&self, mut notes: ClientNotes, now: Timestamp) -> Result<(), StoreError> {
        // In one order: two servers that write the same rows don't wait for each other in a circle.
        notes.tallies.sort_by_key(|tally| (tally.key, tally.at));
        notes.runaways.sort_by_key(|runaway| runaway.id);
        self.database
            .write(move |transaction| {
                for tally in &notes.tallies {
                    count(transaction, tally)?;
                }
                for runaway in &notes.runaways {
                    transaction.execute(RUNAWAY, &runaway_row(runaway, now))?;
                }
                let before = times::micros(now - KEPT);
                transaction.execute(SWEEP_HOURS, &[before.div_euclid(HOUR).into()])?;
                transaction.execute(SWEEP_AGENTS, &[before.div_euclid(DAY).into()])?;
                transaction.execute(SWEEP_RUNAWAYS, &[before.into()])?;
                Ok(())
            })
            .await
    }

    /// How clients have behaved since the hour of an instant: who runs away first, then who sent most in vain. At most
    /// `limit` keys that had any request, of one project or of all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn clients(
        &self,
        (since, now): (Timestamp, Timestamp),
        project: Option<ProjectId>,
        limit: u32,
    ) -> Result<Vec<ClientHealth>, StoreError> {
        let (since, lost) = (times::micros(since), times::micros(now - LOST));
        self.database
            .read(move |transaction| {
                let project: Value = project.map(|project| project.to_string()).into();
                let hour = since.div_euclid(HOUR).into();
                let rows =
                    transaction.query(HEALTH, &[hour, lost.into(), project, i64::from(limit).into()])?;
                rows.iter().map(|row| health(transaction, row, (since, lost))).collect()
            })
            .await
    }
}

fn count(transaction: &mut dyn Transaction, tally: &ClientTally) -> Result<(), StoreError> {
    let (key, at) = (tally.key.to_string(), times::micros(tally.at));
    let named = [key.as_str().into(), at.div_euclid(HOUR).into()];
    let mut counts = tally.counts;
    let counts = counts.columns().map(|count| i64::try_from(*count).unwrap_or(i64::MAX).into());
    let row: Vec<Value> = named.into_iter().chain(counts).collect();
    transaction.execute(COUNT, &row)?;
    let day = at.div_euclid(DAY);
    let of = |agent: &str, requests: u64| -> [Value; 4] {
        [key.as_str().into(), day.into(), agent.into(), (requests as i64).into()]
    };
    let day_of_key: [Value; 2] = [key.as_str().into(), day.into()];
    for (agent, requests) in &tally.agents {
        if transaction.execute(KNOWN_AGENT, &of(agent, *requests))? > 0 {
            continue;
        }
        let there = transaction.query_one(AGENTS_OF_DAY, &day_of_key)?.map_or(Ok(0), |row| row.integer(0))?;
        let agent = if there < MOST_AGENTS as i64 { agent } else { OTHER_AGENT };
        transaction.execute(NEW_AGENT, &of(agent, *requests))?;
    }
    Ok(())
}

fn runaway_row(runaway: &ClientRunaway, now: Timestamp) -> [Value; 8] {
    [
        runaway.id.to_string().into(),
        runaway.key.to_string().into(),
        runaway.cause.as_str().into(),
        times::micros(runaway.began_at).into(),
        times::micros(now).into(),
        runaway.ended_at.map(times::micros).into(),
        (runaway.strikes as i64).into(),
        (runaway.refused as i64).into(),
    ]
}

fn health(
    transaction: &mut dyn Transaction,
    row: &Row,
    (since, lost): (i64, i64),
) -> Result<ClientHealth, StoreError> {
    let key = row.text(0)?;
    let of_key = |from: i64, limit: i64| -> [Value; 3] { [key.as_str().into(), from.into(), limit.into()] };
    let most = MOST_AGENTS as i64 + 1;
    let agents = transaction.query(AGENTS, &of_key(since.div_euclid(DAY), most))?;
    let runaways = transaction.query(RUNAWAYS, &of_key(since, SHOWN_RUNAWAYS))?;
    let mut counts = ClientCounts::default();
    for (column, count) in (4..).zip(counts.columns()) {
        *count = row.integer(column)? as u64;
    }
    Ok(ClientHealth {
        key: row.parsed(0)?,
        project: row.parsed(1)?,
        mode: row.parsed(2)?,
        name: row.text(3)?,
        counts,
        agents: agents.iter().map(agent).collect::<Result<_, _>>()?,
        runaways: runaways.iter().map(|row| runaway(row, lost)).collect::<Result<_, _>>()?,
    })
}

fn agent(row: &Row) -> Result<(String, u64), StoreError> {
    Ok((row.text(0)?, row.integer(1)? as u64))
}

fn runaway(row: &Row, lost: i64) -> Result<ClientRunaway, StoreError> {
    let seen = row.integer(4)?;
    // Of a server that died nobody knows more than when it was seen last.
    let ended = row.optional_integer(5)?.or((seen <= lost).then_some(seen));
    Ok(ClientRunaway {
        id: row.parsed(0)?,
        key: row.parsed(1)?,
        cause: row.text(2)?,
        began_at: times::timestamp(row.integer(3)?)?,
        ended_at: ended.map(times::timestamp).transpose()?,
        strikes: row.integer(6)? as u64,
        refused: row.integer(7)? as u64,
    })
}
