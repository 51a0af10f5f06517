//! What the processes on one PostgreSQL database tell each other, over `NOTIFY` on a connection of its own. Never inside a
//! move: a notification holds a lock of the whole database until its transaction is committed.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use eyebolt_types::id::ProjectId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{broadcast, mpsc, oneshot},
    time::sleep,
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::postgres::runtime;
use crate::{Signal, StoreError};

/// Between two notifications; what is told meanwhile goes out together.
const APART: Duration = Duration::from_millis(20);

/// After a connection that failed.
const REST: Duration = Duration::from_secs(1);

/// Signals that wait to be sent. More are dropped: whoever misses one looks by himself, later.
const WAITING: usize = 4096;

/// Signals in a notification. A server takes less than 8000 bytes; a signal and a space have 44 at most.
const TOGETHER: usize = 150;

/// Signals of this process on their way, and of others as they come.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    telling: Option<mpsc::Sender<Signal>>,
    heard: broadcast::Sender<Signal>,
    /// Projects with a new event, here or elsewhere.
    news: broadcast::Sender<ProjectId>,
}

impl Signals {
    /// For a database that no other process works on.
    pub(super) fn none() -> Self {
        Self { telling: None, heard: broadcast::channel(1).0, news: broadcast::channel(WAITING).0 }
    }

    /// Starts a thread for the connection. It is made in the background, and anew where it breaks.
    pub(super) fn start(config: Config, tls: Option<MakeRustlsConnect>) -> Result<Self, StoreError> {
        let (telling, told) = mpsc::channel(WAITING);
        let (heard, news) = (broadcast::channel(WAITING).0, broadcast::channel(WAITING).0);
        let ears = Ears { heard: heard.clone(), news: news.clone(), own: Arc::default() };
        let (runtime, wire) = (runtime()?, Wire { config, tls, told, ears });
        thread::Builder::new()
            .name("eyebolt-signals".to_owned())
            .spawn(move || runtime.block_on(wire.serve()))
            .expect("the system has threads to spare when the store is opened");
        Ok(Self { telling: Some(telling), heard, news })
    }

    pub(crate) fn tell(&self, signal: Signal) {
        if let Some(telling) = &self.telling {
            let _ = telling.try_send(signal);
        }
    }

    /// There is an event of this project: tells everybody, here too.
    pub(crate) fn tell_event(&self, project: ProjectId) {
        // Nobody may be listening here.
        let _ = self.news.send(project);
        self.tell(Signal::Event(project));
    }

    pub(crate) fn news(&self) -> broadcast::Receiver<ProjectId> {
        self.news.subscribe()
    }

    pub(crate) fn hear(&self) -> broadcast::Receiver<Signal> {
        self.heard.subscribe()
    }
}

struct Wire {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    told: mpsc::Receiver<Signal>,
    ears: Ears,
}

impl Wire {
    async fn serve(mut self) {
        loop {
            match self.session().await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "no signals between servers: they look by themselves"),
            }
            sleep(REST).await;
        }
    }

    /// Until nobody tells anything any more; an error where the connection breaks.
    async fn session(&mut self) -> Result<(), tokio_postgres::Error> {
        let (broken, breaks) = oneshot::channel();
        let own = Arc::new(OnceLock::new());
        let ears = Ears { own: Arc::clone(&own), ..self.ears.clone() };
        let client = if let Some(tls) = self.tls.clone() {
            let (client, connection) = self.config.connect(tls).await?;
            tokio::spawn(listen(connection, ears, broken));
            client
        } else {
            let (client, connection) = self.config.connect(NoTls).await?;
            tokio::spawn(listen(connection, ears, broken));
            client
        };
        let channel = subscribe(&client, &own).await?;
        // What was told before is old by now, and what others told was not heard.
        while self.told.try_recv().is_ok() {}
        let _ = self.ears.heard.send(Signal::Pending);
        self.forward(&client, &channel, breaks).await
    }

    async fn forward(
        &mut self,
        client: &Client,
        channel: &str,
        mut breaks: oneshot::Receiver<()>,
    ) -> Result<(), tokio_postgres::Error> {
        loop {
            let first = tokio::select! {
                first = self.told.recv() => first,
                // Tells how the connection ended.
                _ = &mut breaks => return client.batch_execute("").await,
            };
            let Some(first) = first else { return Ok(()) };
            let mut together = BTreeSet::from([first]);
            while together.len() < TOGETHER
                && let Ok(more) = self.told.try_recv()
            {
                together.insert(more);
            }
            let words: Vec<_> = together.iter().map(Signal::to_string).collect();
            client.execute("SELECT pg_notify($1, $2)", &[&channel, &words.join(" ")]).await?;
            sleep(APART).await;
        }
    }
}

/// One channel for the servers of one schema. Notifications are no rows: their commit need not wait for the disk.
async fn subscribe(client: &Client, own: &OnceLock<i32>) -> Result<String, tokio_postgres::Error> {
    let names = "SELECT left('eyebolt:' || current_schema(), 63), pg_backend_pid()";
    let row = client.query_one(names, &[]).await?;
    let channel: String = row.try_get(0)?;
    own.get_or_init(|| row.get(1));
    let quoted = channel.replace('"', "\"\"");
    client.batch_execute(&format!("SET synchronous_commit = off; LISTEN \"{quoted}\"")).await?;
    Ok(channel)
}

/// Passes on what others tell.
#[derive(Clone)]
struct Ears {
    heard: broadcast::Sender<Signal>,
    news: broadcast::Sender<ProjectId>,
    /// This connection, whose own notifications come back to it.
    own: Arc<OnceLock<i32>>,
}

impl Ears {
    fn hear(&self, notification: &Notification) {
        if self.own.get() == Some(&notification.process_id()) {
            return;
        }
        for signal in notification.payload().split(' ').filter_map(|word| word.parse().ok()) {
            // Nobody may be listening here.
            match signal {
                Signal::Event(project) => drop(self.news.send(project)),
                signal => drop(self.heard.send(signal)),
            }
        }
    }
}

async fn listen<S, T>(mut connection: Connection<S, T>, ears: Ears, broken: oneshot::Sender<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            ears.hear(&notification);
        }
    }
    let _ = broken.send(());
}
