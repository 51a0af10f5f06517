//! What the room shows to operators.

use eyebolt_store::{ClientHealth, ClientRunaway};
use eyebolt_types::{
    Mode,
    id::{KeyId, ProjectId, RunawayId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Clients;
use crate::ApiError;

/// How clients behave, by API key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ClientList {
    /// Always `list`.
    pub object: String,
    /// From this hour on.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Who runs away first, then who sent most in vain: retries, errors and refusals.
    pub data: Vec<ClientView>,
}

/// How the clients of a key behave.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Client)]
pub struct ClientView {
    /// The API key that they show.
    pub key: KeyId,
    /// Always `client`.
    pub object: String,
    /// The key's name.
    pub name: String,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// All requests.
    pub requests: u64,
    /// Those that may start work.
    pub submissions: u64,
    /// Submissions whose idempotency key was known.
    pub retries: u64,
    /// Answers that tell of an image that was seen before.
    pub duplicates: u64,
    /// 4xx but for 429.
    pub client_errors: u64,
    /// Submissions that were told before that they can't succeed.
    pub final_repeats: u64,
    /// 429 and 503.
    pub refusals: u64,
    /// Submissions that came before the time that `Retry-After` named.
    pub early_returns: u64,
    /// 5xx but for 503.
    pub server_errors: u64,
    /// The same in proportion.
    pub ratios: ClientRatios,
    /// What programs they say they are (`User-Agent`), the most requests first: up to twenty a day, and the rest as `other`.
    pub agents: Vec<AgentView>,
    /// Strikes now, of the worst client of this key at this server; they are gone after a minute of good behaviour.
    pub strikes: u8,
    /// When clients ran away, the latest first, at most ten.
    pub runaways: Vec<RunawayView>,
}

/// Parts, 0 to 1.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ClientRatios {
    /// Retries, of submissions.
    pub retry: f64,
    /// Duplicates, of submissions.
    pub duplicate: f64,
    /// Errors of client and server, of requests.
    pub error: f64,
    /// Refusals, of requests.
    pub refusal: f64,
}

/// A program.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ClientAgent)]
pub struct AgentView {
    /// What it calls itself, at most 80 characters of ASCII; `unknown` where it says nothing.
    pub agent: String,
    /// How many it sent.
    pub requests: u64,
}

/// A time in which a client ran away.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ClientRunaway)]
pub struct RunawayView {
    /// Its name.
    pub id: RunawayId,
    /// `repeated`: what was answered, under new keys. `replayed`: one key again and again. `early`: before `Retry-After`.
    /// `final_error`: what can't succeed.
    pub cause: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Timestamp,
    /// When it ended; `null`: it runs away now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Strikes that it got.
    pub strikes: u64,
    /// Requests that were refused for it; where the mode is `observe`, that would have been.
    pub refused: u64,
}

impl Clients {
    /// How clients behave since an instant. What this server counted until now is in it.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn report(
        &self,
        since: Timestamp,
        project: Option<ProjectId>,
        limit: u32,
    ) -> Result<ClientList, ApiError> {
        self.flush().await;
        let now = self.0.clock.now();
        let rows = self.0.store.clients((since, now), project, limit).await?;
        let data = rows.into_iter().map(|health| view(self.strikes_of(health.key), health)).collect();
        Ok(ClientList { object: "list".to_owned(), since, data })
    }

    fn strikes_of(&self, key: KeyId) -> u8 {
        let (state, now) = (self.state(), self.now());
        let callers = state.running.iter().filter(|(_, running)| running.whose.0 == key);
        callers.map(|(caller, _)| state.runaway.strikes(*caller, now)).max().unwrap_or(0)
    }
}

fn view(strikes: u8, health: ClientHealth) -> ClientView {
    let ClientHealth { key, project, mode, name, counts, agents, runaways } = health;
    ClientView {
        key,
        object: "client".to_owned(),
        name,
        project,
        mode,
        requests: counts.requests,
        submissions: counts.submissions,
        retries: counts.retries,
        duplicates: counts.duplicates,
        client_errors: counts.client_errors,
        final_repeats: counts.final_repeats,
        refusals: counts.refusals,
        early_returns: counts.early_returns,
        server_errors: counts.server_errors,
        ratios: ClientRatios {
            retry: part(counts.retries, counts.submissions),
            duplicate: part(counts.duplicates, counts.submissions),
            error: part(counts.client_errors + counts.server_errors, counts.requests),
            refusal: part(counts.refusals, counts.requests),
        },
        agents: agents.into_iter().map(|(agent, requests)| AgentView { agent, requests }).collect(),
        strikes,
        runaways: runaways.into_iter().map(runaway).collect(),
    }
}

fn part(some: u64, all: u64) -> f64 {
    let part = some as f64 / all.max(1) as f64;
    (part * 1000.0).round() / 1000.0
}

fn runaway(row: ClientRunaway) -> RunawayView {
    let ClientRunaway { id, cause, began_at, ended_at, strikes, refused, .. } = row;
    RunawayView { id, cause, began_at, ended_at, strikes, refused }
}
