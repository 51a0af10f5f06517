//! One run: servers, clients, faults, quiet, and everything on disk for the checker.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, ensure};
use eyebolt_types::Clock;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    checker::Record,
    client::{Field, Fleet, Phase, Project},
    database::Schema,
    history::{Fault, History, What, read_lines},
    listening::{Listening, ListeningFiles},
    nemesis::Nemesis,
    profile::{Arguments, Database},
    server::{self, Launch, Server},
    settle::{self, FinalState, Reader},
};

/// Files of a run's folder.
struct Files(PathBuf);

/// Keys that are asked again in the end, of each project.
const ASKED_AGAIN: usize = 150;

/// How long receivers listen on when everything is over.
const LINGER: Duration = Duration::from_secs(1);

impl Files {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let made = std::fs::create_dir(folder);
        made.with_context(|| format!("{}: the run's folder must be new", folder.display()))?;
        Ok(Self(folder.canonicalize()?))
    }

    fn history(&self) -> PathBuf {
        self.0.join("history.jsonl")
    }

    /// Outside the data folders: what ran is known even where the server forgot it.
    fn effects(&self) -> PathBuf {
        self.0.join("effects.jsonl")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// What receivers of webhooks got.
    fn receipts(&self) -> PathBuf {
        self.0.join("receipts.jsonl")
    }

    /// What readers of streams were told.
    fn told(&self) -> PathBuf {
        self.0.join("told.jsonl")
    }

    fn log(&self, server: usize) -> PathBuf {
        self.0.join(format!("server-{server}.log"))
    }
}

/// Reads a run's folder.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Record> {
    let files = Files(folder.to_owned());
    let effects = files.effects();
    let state = std::fs::read(files.state()).with_context(|| files.state().display().to_string())?;
    Ok(Record {
        events: read_lines(&files.history())?,
        effects: if effects.exists() { read_lines(&effects)? } else { Vec::new() },
        receipts: read_lines(&files.receipts())?,
        told: read_lines(&files.told())?,
        state: serde_json::from_slice(&state)?,
    })
}

/// Runs it. What is to be checked is in the folder then.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Option<Schema>> {
    let files = Files::create(&arguments.run_folder)?;
    let schema = schema(arguments, &files).await?;
    let servers = launches(arguments, &files, schema.as_ref())?;
    let projects = ["torture", "neighbour"].map(|name| project(&servers[0], name));
    let projects = projects.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let history = History::create(&files.history(), Clock::system())?;
    history.write("nemesis", What::Run(arguments.setup()));
    let addresses: Vec<_> = servers.iter().map(|launch| launch.address).collect();
    let servers = servers.into_iter().map(Server::new).collect();
    let mut nemesis = Nemesis::new(servers, history.clone(), arguments.setup());
    nemesis.start().await?;
    let listening = listen(arguments, &files, (&addresses, &projects)).await?;
    let (phase, watched) = watch::channel(Phase::Storm);
    let receiver = listening.address();
    let (finished, hooks, batches) = (Mutex::default(), Mutex::default(), Mutex::default());
    let field =
        Field { history, servers: addresses, projects, receiver, finished, hooks, batches, phase: watched };
    let load = (arguments.clients, arguments.seed);
    let mut fleet = Fleet::start((field, phase), files.0.join("clients"), load)?;
    nemesis.rage(&mut fleet, Duration::from_secs(arguments.seconds)).await?;
    nemesis.heal().await?;
    let state = settle(&mut fleet, &listening, arguments).await?;
    let launch = nemesis.end()?;
    write_state(&files, state, &launch)?;
    fleet.field().history.complete()?;
    listening.complete()?;
    Ok(schema)
}

async fn listen(
    arguments: &Arguments,
    files: &Files,
    all: (&[SocketAddr], &[Project]),
) -> anyhow::Result<Listening> {
    let (receipts, told) = (files.receipts(), files.told());
    let time_out = Duration::from_millis(arguments.webhook_timeout_ms);
    let files = ListeningFiles { receipts: &receipts, told: &told };
    Listening::open(&files, all, (time_out, arguments.seed)).await
}

async fn schema(arguments: &Arguments, files: &Files) -> anyhow::Result<Option<Schema>> {
    let Database::Postgres = arguments.database else { return Ok(None) };
    let url = arguments.postgres_url.clone().context("--postgres-url is missing")?;
    let folder = files.0.display().to_string();
    let name = format!("torture_{}", &crate::payload::sha256(folder.as_bytes())[..12]);
    tokio::task::spawn_blocking(move || Schema::create(&url, name)).await?.map(Some)
}

fn launches(arguments: &Arguments, files: &Files, schema: Option<&Schema>) -> anyhow::Result<Vec<Launch>> {
    let mut launches: Vec<Launch> = Vec::new();
    for index in 0..arguments.setup().servers {
        let data = data_folder(&files.0, index)?;
        let seed =
            arguments.seed + launches.last().map_or(0, |last| u64::from(last.address.port()) % 97 + 101);
        let mut address = server::free_address(seed)?;
        while launches.iter().any(|other| other.address == address) {
            address.set_port(address.port() + 1);
        }
        let binary = arguments.server_binary.clone().context("--server-binary is missing")?;
        let environment = environment(arguments, &files.effects(), (&data, schema));
        launches.push(Launch { binary, address, log: files.log(index), environment });
    }
    Ok(launches)
}

/// A server's own data folder. They share their blobs, as servers on one database must.
fn data_folder(run: &Path, index: usize) -> anyhow::Result<std::path::PathBuf> {
    let data = run.join(format!("data-{index}"));
    std::fs::create_dir_all(&data)?;
    if index == 0 {
        std::fs::create_dir_all(data.join("blobs"))?;
    } else {
        std::os::unix::fs::symlink("../data-0/blobs", data.join("blobs"))?;
    }
    Ok(data)
}

fn environment(
    arguments: &Arguments,
    effects: &Path,
    (data, schema): (&Path, Option<&Schema>),
) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("EYEBOLT_DATA_DIR", data.display().to_string()),
        // Servers on one database hash keys alike.
        ("EYEBOLT_KEY_SECRET", "a secret of crash tests alone".to_owned()),
        ("EYEBOLT_LOG_FORMAT", "json".to_owned()),
        ("EYEBOLT_JOBS_LEASE", format!("{}ms", arguments.lease_ms)),
        ("EYEBOLT_JOBS_HEARTBEAT", format!("{}ms", arguments.heartbeat_ms)),
        ("EYEBOLT_OUTBOUND_ALLOW", "[\"127.0.0.0/8\"]".to_owned()),
        ("EYEBOLT_WEBHOOKS_TIMEOUT", format!("{}ms", arguments.webhook_timeout_ms)),
        // Some receivers are slow, and some messages come back: neither may hold up the end of a run.
        ("EYEBOLT_WEBHOOKS_CONCURRENCY", "8".to_owned()),
        ("EYEBOLT_WEBHOOKS_BACKLOG_PER_SECOND", "200".to_owned()),
        // Streams are found dead, and end by themselves, within a run.
        ("EYEBOLT_EVENTS_HEARTBEAT", "1s".to_owned()),
        ("EYEBOLT_EVENTS_STREAM_LIFETIME", "8s".to_owned()),
        ("EYEBOLT_TORTURE_EFFECTS", effects.display().to_string()),
        ("EYEBOLT_TORTURE_DELAY_MS", arguments.delay_ms.clone()),
    ];
    environment.extend(schema.map(|schema| ("EYEBOLT_DATABASE_URL", schema.url())));
    environment.extend(arguments.defect.name().map(|name| ("EYEBOLT_TORTURE_DEFECT", name.to_owned())));
    environment
}

fn project(launch: &Launch, name: &str) -> anyhow::Result<Project> {
    let made = launch.ask(&["project", "create", name, "--json"])?;
    let secret = made["key"].as_str().context("project create prints no key")?.to_owned();
    Ok(Project { name: name.to_owned(), secret })
}

/// Brings clients, jobs and messages to their ends and reads what is left.
async fn settle(
    fleet: &mut Fleet,
    listening: &Listening,
    arguments: &Arguments,
) -> anyhow::Result<FinalState> {
    let limit = Duration::from_secs(arguments.settle_seconds);
    fleet.drain(limit).await?;
    let field = fleet.field();
    let server = *field.servers.last().context("there is a server")?;
    let readers: Vec<_> = field.projects.iter().map(|project| Reader { server, project }).collect();
    if settle::quiet(&readers, limit).await? {
        field.history.write("nemesis", What::Nemesis(Fault::Quiet));
    }
    let hooks = field.hooks.lock().expect("no holder panics").clone();
    let told = settle::told(&readers, (listening, &hooks), limit).await?;
    if told {
        field.history.write("nemesis", What::Nemesis(Fault::Told));
    }
    let mut projects = Vec::new();
    for reader in &readers {
        projects.push(reader.state().await?);
    }
    fleet.ask_again(ASKED_AGAIN);
    fleet.auditors_end(limit).await;
    // A key that is asked again tells nothing: that would have come by now.
    tokio::time::sleep(LINGER).await;
    Ok(FinalState { projects, ..FinalState::default() })
}

fn write_state(files: &Files, mut state: FinalState, launches: &[Launch]) -> anyhow::Result<()> {
    let audit = launches.first().context("there is a server")?.ask(&["audit", "--json"]);
    state.audit = audit.unwrap_or_else(|error| json!({"sound": false, "error": format!("{error:#}")}));
    for launch in launches {
        state.fenced += server::fenced_lines(&launch.log)?;
        state.disabled.extend(server::disabled_endpoints(&launch.log)?);
    }
    ensure!(state.audit != Value::Null, "the audit says nothing");
    std::fs::write(files.state(), serde_json::to_vec_pretty(&state)?)?;
    Ok(())
}
