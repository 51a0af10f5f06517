//! The server as a process, in a folder of its own.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::load::{Client, Target};

/// What stands in for the engine.
#[derive(Clone, Copy, Default)]
pub(crate) struct Engine {
    /// How long a step takes.
    pub(crate) delay_ms: u64,
    /// Steps at once; none: as many as there are.
    pub(crate) threads: Option<usize>,
    /// Jobs at once; none: as many as the server thinks right.
    pub(crate) slots: Option<usize>,
}

pub(crate) struct Server {
    folder: PathBuf,
    database_url: Option<String>,
    target: Target,
    child: Option<Child>,
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(10);

impl Server {
    /// Makes the project whose key the calls have.
    pub(crate) fn new(folder: &Path, database_url: Option<String>) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let target = Target { address, secret: String::new() };
        let mut server = Self { folder: folder.to_owned(), database_url, target, child: None };
        let made = server.command().args(["project", "create", "bench", "--json"]).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout)?;
        made["key"].as_str().context("no key")?.clone_into(&mut server.target.secret);
        Ok(server)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eyebolt"));
        command
            .env("EYEBOLT_DATA_DIR", self.folder.join("data"))
            .env("EYEBOLT_TORTURE_EFFECTS", self.folder.join("effects.jsonl"))
            .env("EYEBOLT_LOG_FILTER", "warn")
            // Nothing is computed while jobs are accepted: no more is promised than is done by their deadline.
            .env("EYEBOLT_JOBS_DEADLINE", "24h")
            .env("EYEBOLT_OUTBOUND_ALLOW", "[\"127.0.0.0/8\"]")
            .stdin(Stdio::null());
        if let Some(url) = &self.database_url {
            command.env("EYEBOLT_DATABASE_URL", url);
        }
        command
    }

    /// Starts it, and comes back when it is healthy.
    pub(crate) async fn start(&mut self, engine: &Engine) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = self.command();
        command.arg("serve").env("EYEBOLT_LISTEN", self.target.address.to_string());
        command.env("EYEBOLT_TORTURE_DELAY_MS", format!("{0}..{0}", engine.delay_ms));
        if let Some(threads) = engine.threads {
            command.env("EYEBOLT_ENGINE_THREADS", threads.to_string());
            command.env("EYEBOLT_TORTURE_THREADS", threads.to_string());
        }
        if let Some(slots) = engine.slots {
            command.env("EYEBOLT_JOBS_SLOTS", slots.to_string());
            // Who waits for an answer is turned away where there is no room.
            command.env("EYEBOLT_ADMISSION_ANSWER_LATER", "false");
        }
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let end = Instant::now() + PATIENCE;
        while !healthy(self.target.address).await {
            ensure!(child.try_wait()?.is_none() && Instant::now() < end, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.child = Some(child);
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// As the system does when memory is short.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// What the process used so far, of all its threads.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let id = self.child.as_ref().context("no server")?.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // Behind the name, which may hold anything: the 12th and 13th field, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |place: usize| fields.get(place).and_then(|ticks| ticks.parse::<u64>().ok()).context("no ticks");
        Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    /// What the engine really did so far, whether it was written down by the server or not: job and step.
    pub(crate) fn executions(&self) -> anyhow::Result<Vec<(String, String)>> {
        let effects = std::fs::read_to_string(self.folder.join("effects.jsonl"))?;
        let read = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            text("job").zip(text("step")).with_context(|| format!("no execution: {line}"))
        };
        effects.lines().map(read).collect()
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Comes back when no job waits or runs.
    pub(crate) async fn drained(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut client = Client::open(&self.target).await?;
        for status in ["pending", "processing"] {
            while client.any(status).await? {
                ensure!(Instant::now() < end, "jobs do not end: {}", self.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

async fn healthy(address: SocketAddr) -> bool {
    let target = Target { address, secret: String::new() };
    match Client::open(&target).await {
        Ok(mut client) => client.get("/healthz").await.is_ok_and(|(status, _)| status == 200),
        Err(_) => false,
    }
}
