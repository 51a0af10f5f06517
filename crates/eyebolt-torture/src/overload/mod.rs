//! Overload of the real server: an open loop of arrivals (nobody waits for an answer before the next one comes), clients that
//! retry, and a backend that only sleeps, for as long as the image is large. The same scenarios as in virtual time
//! (`eyebolt-plant`), shortened.

mod client;
mod scenario;
mod summary;

use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use self::{
    client::{Client, Lived},
    scenario::{RUDE, SCENARIOS, Scenario, WORKERS},
};
use crate::{
    profile::Arguments,
    server::{self, Launch, Server},
};

/// How long the server may take to start.
const START: Duration = Duration::from_secs(20);

/// Connections of the rude tenant at most.
const RUDE_CONNECTIONS: usize = 200;

/// Runs every scenario on a fresh server and prints a table.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir(&arguments.run_folder)
        .with_context(|| format!("{}: the run's folder must be new", arguments.run_folder.display()))?;
    println!("{}", summary::HEADER);
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        let folder = arguments.run_folder.join(index.to_string());
        let lives = one(arguments, (scenario, &folder)).await?;
        println!("{}", summary::row(scenario, &lives));
    }
    Ok(())
}

async fn one(arguments: &Arguments, (scenario, folder): (&Scenario, &Path)) -> anyhow::Result<Vec<Lived>> {
    std::fs::create_dir(folder)?;
    let launch = launch(arguments, &folder.canonicalize()?)?;
    let keys = (0..=RUDE).map(|tenant| key(&launch, &format!("tenant {tenant}")));
    let keys: Arc<[String]> = keys.collect::<anyhow::Result<Vec<_>>>()?.into();
    let mut server = Server::new(launch);
    server.start(None)?;
    server.healthy(START).await?;
    let began = Instant::now();
    let mut arrivals = JoinSet::new();
    for tenant in 0..=RUDE {
        let random = StdRng::seed_from_u64(arguments.seed * 1000 + tenant as u64);
        let client = Client { server: server.launch().address, key: keys[tenant].clone(), tenant, began };
        arrivals.spawn(arrive(*scenario, client, random));
    }
    let mut lives = Vec::new();
    while let Some(arrived) = arrivals.join_next().await {
        lives.extend(arrived?);
    }
    server.kill()?;
    ensure!(!lives.is_empty(), "nobody came");
    Ok(lives)
}

/// Requests of one tenant, at the times that were drawn, however the server does.
async fn arrive(scenario: Scenario, client: Client, mut random: StdRng) -> Vec<Lived> {
    let (mut at, mut living, mut lives) = (0.0, JoinSet::new(), Vec::new());
    let mut born = Vec::new();
    while at < scenario.seconds {
        let rate = scenario.rate(client.tenant, at);
        let gap = if rate > 0.0 { -random.random_range(f64::MIN_POSITIVE..1.0).ln() / rate } else { 0.25 };
        at += gap;
        tokio::time::sleep_until((client.began + Duration::from_secs_f64(at)).into()).await;
        while let Some(lived) = living.try_join_next() {
            lives.extend(lived);
        }
        if rate <= 0.0 || client.tenant == RUDE && living.len() >= RUDE_CONNECTIONS {
            continue;
        }
        let megapixels = scenario::megapixels(&mut random);
        born.push((at, megapixels));
        living.spawn(client.clone().live(megapixels, StdRng::seed_from_u64(random.random())));
    }
    // Whoever is still on the way when the measured time is over is not waited for, and was not answered.
    tokio::time::sleep_until((client.began + Duration::from_secs_f64(scenario.seconds)).into()).await;
    while let Some(lived) = living.try_join_next() {
        lives.extend(lived);
    }
    let known: HashSet<_> = lives.iter().map(|lived: &Lived| lived.megapixels.to_bits()).collect();
    let open = born.into_iter().filter(|(_, megapixels)| !known.contains(&megapixels.to_bits()));
    lives.extend(open.map(|(at, megapixels)| Lived::unanswered((client.tenant, at), megapixels)));
    lives
}

fn launch(arguments: &Arguments, folder: &Path) -> anyhow::Result<Launch> {
    let data = folder.join("data").display().to_string();
    Ok(Launch {
        binary: arguments.server_binary.clone().context("--server-binary is missing")?.canonicalize()?,
        address: server::free_address(arguments.seed)?,
        log: folder.join("server.log"),
        environment: vec![
            ("EYEBOLT_DATA_DIR", data),
            ("EYEBOLT_MODELS_DIR", folder.join("models").display().to_string()),
            ("EYEBOLT_TORTURE_EFFECTS", folder.join("effects.jsonl").display().to_string()),
            ("EYEBOLT_ENGINE_THREADS", WORKERS.to_string()),
            ("EYEBOLT_TORTURE_THREADS", WORKERS.to_string()),
            // What is compared is who is served and who is refused.
            ("EYEBOLT_ADMISSION_ANSWER_LATER", "false".to_owned()),
            ("EYEBOLT_HTTP_MAX_CONNECTIONS", "8192".to_owned()),
            ("EYEBOLT_LOG_FILTER", "warn".to_owned()),
        ],
    })
}

fn key(launch: &Launch, name: &str) -> anyhow::Result<String> {
    let made = launch.ask(&["project", "create", name, "--json"])?;
    Ok(made["key"].as_str().context("a key")?.to_owned())
}
