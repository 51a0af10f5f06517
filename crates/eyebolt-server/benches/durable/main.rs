//! What durability costs: the real server as a process, over HTTP, with an engine that looks at nothing. Each call has an
//! idempotency key of its own; all processes share the machine.
//!
//! ```sh
//! cargo bench -p eyebolt-server --features torture --bench durable -- \
//!   [--database-url URL] [--telling | --batch | --pipeline] [--jobs 100000] [--calls 20000] [--items 10000]
//! ```
//!
//! The PostgreSQL database must be empty.

mod batch;
mod figures;
mod load;
mod pipeline;
mod receiver;
mod server;
mod telling;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Parser};

use crate::{
    figures::{Figure, millis, percentile, row},
    load::{Ask, Client, Sent, Target, closed_loop, open_loop, refused_loop},
    server::{Engine, Server},
};

#[derive(Parser)]
struct Arguments {
    /// Jobs that are stored when the server is killed.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Calls of every other figure.
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// PostgreSQL instead of SQLite.
    #[arg(long)]
    database_url: Option<String>,
    #[command(flatten)]
    phase: Phase,
    /// Items of a batch, 10,000 where nothing is said; jobs of each kind beside pipelines, 3,000.
    #[arg(long)]
    items: Option<usize>,
    /// Comes from `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One of these and nothing else.
#[derive(Args)]
#[group(multiple = false)]
struct Phase {
    /// How soon ends are told to receivers of webhooks.
    #[arg(long)]
    telling: bool,
    /// A batch beside single calls, and one whose server is killed.
    #[arg(long)]
    batch: bool,
    /// What a step of a pipeline costs.
    #[arg(long)]
    pipeline: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let mut server = Server::new(folder.path(), arguments.database_url.clone())?;
    println!("| | a second | p50, ms | p99, ms |\n| --- | ---: | ---: | ---: |");
    if arguments.phase.telling {
        return telling::measure(&mut server).await;
    }
    if arguments.phase.batch {
        return batch::measure(&mut server, arguments.items.unwrap_or(10_000)).await;
    }
    if arguments.phase.pipeline {
        return pipeline::measure(&mut server, arguments.items.unwrap_or(3_000)).await;
    }
    enqueue(&mut server, &arguments).await?;
    kill_and_drain(&mut server, &arguments).await?;
    calls(&server, arguments.calls).await?;
    steady(&server).await?;
    refusals(&mut server, arguments.calls).await?;
    Ok(())
}

/// One job at once, and that does not end.
const STUCK: Engine = Engine { delay_ms: 3_600_000, threads: None, slots: Some(1) };

/// Nothing is computed meanwhile: the only slot is taken by a job that does not end.
async fn enqueue(server: &mut Server, arguments: &Arguments) -> anyhow::Result<()> {
    server.start(&STUCK).await?;
    Client::open(server.target()).await?.ask(&Ask::later("plug", "plug")).await?;
    let (first, most) = (arguments.calls, arguments.jobs.saturating_sub(arguments.calls));
    for (clients, name, count) in [(16, "a", first), (64, "b", most)] {
        let ask = |n: usize| Ask::later(&format!("{name}{n}"), &format!("{name}{n}"));
        let figure = closed_loop(server.target(), clients, count, ask).await?;
        row(&format!("accepted as jobs (202), {clients} clients"), &figure);
    }
    Ok(())
}

/// A crash, the start after it, and the jobs that it left.
async fn kill_and_drain(server: &mut Server, arguments: &Arguments) -> anyhow::Result<()> {
    server.kill()?;
    let killed = Instant::now();
    server.start(&Engine::default()).await?;
    let healthy = killed.elapsed();
    Client::open(server.target()).await?.ask(&Ask::later("after", "after")).await?;
    let first = killed.elapsed();
    let begun = Instant::now();
    server.drained().await?;
    let rate = arguments.jobs as f64 / begun.elapsed().as_secs_f64();
    println!("| {} stored jobs: `kill -9` to healthy | | {:.0} | |", arguments.jobs, millis(healthy));
    println!("| the same, to the first accepted call | | {:.0} | |", millis(first));
    println!("| claimed and completed | {rate:.0} | | |");
    Ok(())
}

async fn calls(server: &Server, count: usize) -> anyhow::Result<()> {
    for clients in [16, 64] {
        let ask = |n: usize| Ask::now(&format!("c{clients}-{n}"), &format!("c{clients}-{n}"));
        let figure = closed_loop(server.target(), clients, count, ask).await?;
        row(&format!("accepted, run, answered (200), {clients} clients"), &figure);
        let again = closed_loop(server.target(), clients, count, ask).await?;
        row(&format!("answered again (replay), {clients} clients"), &again);
    }
    Ok(())
}

/// From the client's send to the step's begin, on one clock.
async fn steady(server: &Server) -> anyhow::Result<()> {
    let (rate, count) = (100, 1000);
    let ask = |n: usize| Ask::later(&format!("s{n}"), &format!("s{n}"));
    let sent = open_loop(server.target(), rate, |n| n < count, ask).await?;
    server.drained().await?;
    let mut waits = Vec::new();
    let mut client = Client::open(server.target()).await?;
    for Sent { at, job, .. } in &sent {
        let started = client.started(job.as_ref().context("no job")?).await?;
        waits.push(started.duration_since(*at).as_secs_f64() * 1000.0);
    }
    let figure =
        Figure { rate: f64::from(rate), p50: percentile(&mut waits, 0.5), p99: percentile(&mut waits, 0.99) };
    row("enqueue to start, at a steady rate", &figure);
    Ok(())
}

/// The only worker is busy, and as many wait as may: everybody else is turned away.
async fn refusals(server: &mut Server, count: usize) -> anyhow::Result<()> {
    server.kill()?;
    server.start(&STUCK).await?;
    Client::open(server.target()).await?.ask(&Ask::later("second-plug", "second-plug")).await?;
    let mut crowd = 0;
    while !refused_at_once(server.target()).await? {
        let mut client = Client::open(server.target()).await?;
        let name = format!("crowd-{crowd}");
        tokio::spawn(async move { client.ask(&Ask::now(&name, &name)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        crowd += 1;
    }
    for clients in [16, 64] {
        let before = server.processor_time()?;
        let figure = refused_loop(server.target(), clients, count).await?;
        let each = server.processor_time()?.saturating_sub(before).as_secs_f64() * 1e6 / count as f64;
        row(&format!("turned away (503), {clients} clients"), &figure);
        println!("| the server's processor time of each, µs | {each:.1} | | |");
    }
    Ok(())
}

/// Within a moment: whoever waits is not turned away.
async fn refused_at_once(target: &Target) -> anyhow::Result<bool> {
    let mut client = Client::open(target).await?;
    let ask = Ask::now("probe", "probe");
    let answer = tokio::time::timeout(Duration::from_millis(200), client.is_refused(&ask)).await;
    answer.unwrap_or(Ok(false))
}
