//! Those who are told: receivers of webhooks and readers of streams. Everything that they hear is written down.

mod frames;
mod message;
mod reader;
mod receiver;
mod signature;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, ensure};
use eyebolt_types::Clock;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use message::{Heard, Message, Receipt, Said, Told};
pub(crate) use receiver::{GONE, Receiver};

use crate::{client::Project, history::Lines, wire::Call};
use reader::Reader;

/// An end of a job or a batch: its id, and when it was. One that is run again has several.
pub(crate) type EndOf = (String, Option<String>);

/// Ends that a stream told.
type Seen = Arc<Mutex<BTreeSet<EndOf>>>;

/// All who listen in a run.
pub(crate) struct Listening {
    receiver: Receiver,
    told: Lines,
    seen: Seen,
    _readers: Vec<AbortOnDropHandle<()>>,
}

/// Where the listeners of a run write.
pub(crate) struct ListeningFiles<'a> {
    pub(crate) receipts: &'a Path,
    pub(crate) told: &'a Path,
}

/// Endpoints of the first project and of the second: name and scheme.
const ENDPOINTS: [&[(&str, &str)]; 2] = [&[("shaky", "v1"), (GONE, "v1")], &[("shaky", "v1a")]];

/// How long a request to make an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Listening {
    /// Makes the endpoints of all projects, and a reader of each one's stream. Nothing may have happened before, and no
    /// server may be harmed meanwhile.
    pub(crate) async fn open(
        files: &ListeningFiles<'_>,
        (servers, projects): (&[SocketAddr], &[Project]),
        (time_out, seed): (Duration, u64),
    ) -> anyhow::Result<Self> {
        let receiver = Receiver::start(files.receipts, (time_out, seed)).await?;
        let (told, seen) = (Lines::create(files.told, Clock::system())?, Seen::default());
        let mut readers = Vec::new();
        for (index, project) in projects.iter().enumerate() {
            let at = (servers.first().copied().context("there is a server")?, project);
            for (name, scheme) in ENDPOINTS.get(index).copied().unwrap_or_default() {
                make_endpoint(&receiver, at, (name, scheme)).await?;
            }
            let made = ask(at, "/v1/webhook-secret:rotate", &json!({})).await?;
            receiver.knows(&format!("hook/{}", project.name), &made)?;
            let mut reader =
                Reader::new((project.clone(), servers.to_vec()), (told.clone(), Arc::clone(&seen)), seed);
            reader.begin().await?;
            readers.push(AbortOnDropHandle::new(tokio::spawn(reader.run())));
        }
        Ok(Self { receiver, told, seen, _readers: readers })
    }

    /// Where messages go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    /// Whether a stream told of all these ends, and each of these receivers took all that was told of what it is for.
    pub(crate) fn heard(&self, ends: &[EndOf], receivers: &[(String, String)]) -> bool {
        let seen = self.seen.lock().expect("no holder panics");
        let took = |(name, id): &(String, String)| {
            let mut of = seen.range((id.clone(), None)..).take_while(|(of, _)| of == id);
            of.all(|end| self.receiver.took(name, end))
        };
        ends.iter().all(|end| seen.contains(end)) && receivers.iter().all(took)
    }

    /// Whether every line was written.
    pub(crate) fn complete(&self) -> anyhow::Result<()> {
        self.receiver.complete()?;
        self.told.complete()
    }
}

async fn make_endpoint(
    receiver: &Receiver,
    at: (SocketAddr, &Project),
    (name, scheme): (&str, &str),
) -> anyhow::Result<()> {
    let to = format!("endpoint/{}/{name}", at.1.name);
    let wanted = json!({"url": format!("http://{}/{to}", receiver.address()), "signature": scheme});
    let made = ask(at, "/v1/webhook-endpoints", &wanted).await?;
    receiver.knows(&to, &made)
}

async fn ask((server, project): (SocketAddr, &Project), path: &str, body: &Value) -> anyhow::Result<Value> {
    let call = Call::post(path, body).by(&project.secret);
    let reply = call.send(server, PATIENCE).await.map_err(anyhow::Error::msg)?;
    ensure!((200..300).contains(&reply.status), "POST {path} answers {}: {:?}", reply.status, reply.body);
    Ok(serde_json::from_slice(&reply.body)?)
}
