//! After the last fault: waits until all jobs have ended, then reads everything that the server shows.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::Project,
    listening::{EndOf, Listening},
    observed::{Answer, BatchView, JobView, Usage},
    wire::{Call, Reply},
};

/// What the server shows in the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct FinalState {
    /// One for each project.
    pub(crate) projects: Vec<ProjectState>,
    /// What the server's own audit of its ledger says.
    pub(crate) audit: Value,
    /// Lines of the servers' logs that tell of a refused write with an old lease.
    pub(crate) fenced: u64,
    /// Webhook endpoints that the servers' logs tell were switched off.
    pub(crate) disabled: BTreeSet<String>,
}

/// What a project sees in the end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ProjectState {
    /// Its name.
    pub(crate) name: String,
    /// All jobs of its list, each as `GET /v1/jobs/{id}` shows it.
    pub(crate) jobs: Vec<JobView>,
    /// Jobs of its list that can't be read, with the status that came instead.
    pub(crate) unreadable: Vec<(String, u16)>,
    /// Its totals.
    pub(crate) usage: Usage,
    /// Its webhook endpoints.
    pub(crate) endpoints: Vec<EndpointView>,
    /// Its batches.
    pub(crate) batches: Vec<BatchState>,
}

/// A batch in the end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct BatchState {
    /// As `GET /v1/batches/{id}` shows it.
    pub(crate) view: BatchView,
    /// In their order.
    pub(crate) items: Vec<ItemView>,
}

/// An item of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ItemView {
    /// The client's name for it.
    pub(crate) custom_id: String,
    /// Its own key, where it has one.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// Its state's name.
    pub(crate) status: String,
    /// Its job, where it had one.
    pub(crate) job: Option<String>,
}

/// A webhook endpoint in the end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct EndpointView {
    /// Its id.
    pub(crate) id: String,
    /// The receiver's name.
    pub(crate) to: String,
    /// Its state's name.
    pub(crate) status: String,
}

impl EndpointView {
    /// Whether it is told.
    pub(crate) fn is_on(&self) -> bool {
        self.status == "enabled"
    }
}

/// Asks a server that nobody harms any more.
pub(crate) struct Reader<'a> {
    pub(crate) server: SocketAddr,
    pub(crate) project: &'a Project,
}

const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what has not ended.
const LOOK: Duration = Duration::from_millis(100);
const READERS: usize = 8;

/// Whether all jobs and batches of all projects ended within `limit`.
pub(crate) async fn quiet(readers: &[Reader<'_>], limit: Duration) -> anyhow::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let mut open = 0;
        for reader in readers {
            for status in ["pending", "processing"] {
                open += reader.list(Some(status)).await?.len();
            }
            open += reader.batches().await?.iter().filter(|batch| !batch.is_terminal()).count();
        }
        if open == 0 {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether all ends were told to all who listen within `limit`; `hooks` are receivers that requests named.
pub(crate) async fn told(
    readers: &[Reader<'_>],
    (listening, hooks): (&Listening, &[(String, String)]),
    limit: Duration,
) -> anyhow::Result<bool> {
    let end = Instant::now() + limit;
    let mut ends = Vec::new();
    for reader in readers {
        ends.extend(reader.list(None).await?);
        ends.extend(reader.batches().await?.into_iter().map(|batch| (batch.id, batch.finished_at)));
    }
    loop {
        let mut waiting = !listening.heard(&ends, hooks);
        for reader in readers {
            waiting = waiting || reader.tells().await?;
        }
        if !waiting {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Reader<'_> {
    pub(crate) async fn state(&self) -> anyhow::Result<ProjectState> {
        let listed: Vec<_> = self.list(None).await?.into_iter().map(|(id, _)| id).collect();
        let read: Vec<_> =
            stream::iter(&listed).map(|job| self.job(job)).buffered(READERS).try_collect().await?;
        let mut state = ProjectState { name: self.project.name.clone(), ..ProjectState::default() };
        for (id, answer) in listed.into_iter().zip(read) {
            match answer.job.filter(|job| job.id == id) {
                Some(job) => state.jobs.push(job),
                None => state.unreadable.push((id, answer.status)),
            }
        }
        let reply = self.ask(Call::get("/v1/usage")).await?;
        state.usage = answer(&reply).usage.context("GET /v1/usage has no totals")?;
        state.endpoints = self.endpoints().await?;
        for view in self.batches().await? {
            let items = self.items(&view.id).await?;
            state.batches.push(BatchState { view, items });
        }
        Ok(state)
    }

    /// All batches.
    async fn batches(&self) -> anyhow::Result<Vec<BatchView>> {
        let listed = self.pages("/v1/batches?limit=100").await?;
        listed.iter().map(BatchView::read).collect::<Option<_>>().context("a batch without state or counts")
    }

    async fn items(&self, batch: &str) -> anyhow::Result<Vec<ItemView>> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let item = |view: &Value| {
            let (custom_id, status) = (text(&view["custom_id"])?, text(&view["status"])?);
            let (key, job) = (text(&view["idempotency_key"]), text(&view["job_id"]));
            Some(ItemView { custom_id, key, status, job })
        };
        let listed = self.pages(&format!("/v1/batches/{batch}/items?limit=100")).await?;
        listed.iter().map(item).collect::<Option<_>>().context("an item without name or state")
    }

    /// Everything that a list holds.
    async fn pages(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let path = cursor.map_or(path.to_owned(), |cursor: String| format!("{path}&cursor={cursor}"));
            let reply = self.ask(Call::get(path)).await?;
            all.extend(data(&reply)?);
            let page: Value = serde_json::from_slice(&reply.body)?;
            if page["has_more"] != true {
                return Ok(all);
            }
            cursor = Some(page["next_cursor"].as_str().context("a list with more has no cursor")?.to_owned());
        }
    }

    /// Whether something is still on its way to an endpoint.
    async fn tells(&self) -> anyhow::Result<bool> {
        for endpoint in self.endpoints().await?.iter().filter(|endpoint| endpoint.is_on()) {
            let path = format!("/v1/webhook-endpoints/{}/deliveries?status=pending&limit=1", endpoint.id);
            if !data(&self.ask(Call::get(path)).await?)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn endpoints(&self) -> anyhow::Result<Vec<EndpointView>> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let endpoint = |view: &Value| {
            let url: http::Uri = view["url"].as_str()?.parse().ok()?;
            let to = url.path().trim_start_matches('/').to_owned();
            Some(EndpointView { id: text(&view["id"])?, to, status: text(&view["status"])? })
        };
        let listed = data(&self.ask(Call::get("/v1/webhook-endpoints")).await?)?;
        listed.iter().map(endpoint).collect::<Option<_>>().context("an endpoint without address or state")
    }

    /// All jobs, or those in one state: the id, and when it ended.
    async fn list(&self, status: Option<&str>) -> anyhow::Result<Vec<EndOf>> {
        let (mut ids, mut cursor) = (Vec::new(), None);
        let end = |job: &Value| {
            Some((job["id"].as_str()?.to_owned(), job["finished_at"].as_str().map(str::to_owned)))
        };
        loop {
            let reply = self.ask(Call::list(status, cursor.as_deref())).await?;
            ensure!(reply.status == 200, "GET /v1/jobs answers {}: {:?}", reply.status, reply.body);
            let page: Value = serde_json::from_slice(&reply.body)?;
            let data = page["data"].as_array().context("the list of jobs has no data")?;
            ids.extend(data.iter().filter_map(end));
            if page["has_more"] != true {
                return Ok(ids);
            }
            let next = page["next_cursor"].as_str().context("a list with more has no cursor")?.to_owned();
            ensure!(cursor.as_ref() != Some(&next), "the list of jobs stands still at {next}");
            cursor = Some(next);
        }
    }

    async fn job(&self, id: &str) -> anyhow::Result<Answer> {
        Ok(answer(&self.ask(Call::get(format!("/v1/jobs/{id}"))).await?))
    }

    async fn ask(&self, call: Call) -> anyhow::Result<Reply> {
        call.by(&self.project.secret).send(self.server, PATIENCE).await.map_err(anyhow::Error::msg)
    }
}

/// What a list holds.
fn data(reply: &Reply) -> anyhow::Result<Vec<Value>> {
    ensure!(reply.status == 200, "a list answers {}: {:?}", reply.status, reply.body);
    let page: Value = serde_json::from_slice(&reply.body)?;
    Ok(page["data"].as_array().context("a list has no data")?.clone())
}

fn answer(reply: &Reply) -> Answer {
    Answer::of(reply.status, &reply.headers, &reply.body)
}
