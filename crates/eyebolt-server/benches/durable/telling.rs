//! How soon a job's end is told to a receiver of webhooks, and how a receiver that was away gets what it missed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use jiff::SignedDuration;

use crate::{
    figures::{Figure, percentile, row},
    load::{Ask, Client, closed_loop, open_loop},
    receiver::{Receiver, Taken},
    server::{Engine, Server},
};

/// Jobs that end while nobody takes messages, for so many receivers.
const MISSED: usize = 1000;
const RECEIVERS: usize = 10;

/// After so long nothing is new any more.
const OUTAGE: Duration = Duration::from_secs(6);

/// How long everything may take to be told.
const PATIENCE: Duration = Duration::from_mins(10);

pub(crate) async fn measure(server: &mut Server) -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    server.start(&Engine::default()).await?;
    create(&mut Client::open(server.target()).await?, &receiver, 0).await?;
    steady(server, &receiver).await?;
    let mut client = Client::open(server.target()).await?;
    for number in 1..RECEIVERS {
        create(&mut client, &receiver, number).await?;
    }
    after_an_outage(server, &receiver).await
}

async fn create(client: &mut Client, receiver: &Receiver, number: usize) -> anyhow::Result<()> {
    let url = format!("http://{}/{number}", receiver.address);
    client.create("/v1/webhook-endpoints", &serde_json::json!({ "url": url })).await
}

/// From the job's end, as its event has it, to the message, on one clock.
async fn steady(server: &Server, receiver: &Receiver) -> anyhow::Result<()> {
    let (rate, count) = (100, 2000);
    let ask = |n: usize| Ask::later(&format!("t{n}"), &format!("t{n}"));
    let sent = open_loop(server.target(), rate, |n| n < count, ask).await?;
    wait_for(receiver, sent.len()).await?;
    let milliseconds = |taken: &Taken| taken.came.duration_since(taken.ended).as_secs_f64() * 1000.0;
    let mut waits: Vec<_> = receiver.take().iter().flatten().map(milliseconds).collect();
    let longest = percentile(&mut waits, 1.0);
    let figure =
        Figure { rate: f64::from(rate), p50: percentile(&mut waits, 0.5), p99: percentile(&mut waits, 0.99) };
    row("a job's end to its message, at a steady rate", &figure);
    println!("| the same, the slowest of {} | | | {longest:.1} |", waits.len());
    Ok(())
}

async fn after_an_outage(server: &Server, receiver: &Receiver) -> anyhow::Result<()> {
    receiver.set_up(false);
    let ask = |n: usize| Ask::later(&format!("m{n}"), &format!("m{n}"));
    closed_loop(server.target(), 16, MISSED, ask).await?;
    server.drained().await?;
    tokio::time::sleep(OUTAGE).await;
    let (back, all) = (receiver.now(), MISSED * RECEIVERS);
    receiver.set_up(true);
    wait_for(receiver, all).await?;
    let taken = receiver.take();
    let last = taken.iter().flatten().map(|taken| taken.came).max().unwrap_or(back);
    let took = last.duration_since(back).as_secs_f64();
    let most = taken.iter().map(|taken| most_in_a_second(taken)).max().unwrap_or_default();
    println!(
        "| {all} missed messages of {RECEIVERS} receivers: taken in {took:.1} s | {:.0} | | |",
        all as f64 / took
    );
    println!("| the same, most within any second to one receiver | {most} | | |");
    Ok(())
}

async fn wait_for(receiver: &Receiver, count: usize) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while receiver.count() < count {
        ensure!(Instant::now() < end, "{} of {count} messages came", receiver.count());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn most_in_a_second(taken: &[Taken]) -> usize {
    let mut came: Vec<_> = taken.iter().map(|taken| taken.came).collect();
    came.sort();
    let second = SignedDuration::from_secs(1);
    let within = |(first, at): (usize, &jiff::Timestamp)| {
        came[first..].iter().take_while(|later| later.duration_since(*at) < second).count()
    };
    came.iter().enumerate().map(within).max().unwrap_or_default()
}
