//! A large batch: how long it takes, what it does to calls that somebody waits for, and what is left of it where the server
//! is killed again and again.

use std::{
    cell::Cell,
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::try_join;

use crate::{
    figures::{Figure, percentile, row},
    load::{Ask, Client, Sent, Target, open_loop},
    server::{Engine, Server},
};

/// Two threads that take 5 ms an item.
const ENGINE: Engine = Engine { delay_ms: 5, threads: Some(2), slots: None };

/// Bytes of an image.
const IMAGE: usize = 2048;

/// Single calls a second, and how long they are alone.
const RATE: u32 = 20;
const ALONE: usize = 15 * RATE as usize;

/// How often the server is killed, and after how much time for each item: with 10,000 items every 4 s.
const KILLS: usize = 5;
const GAP: Duration = Duration::from_micros(400);

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How long a batch may take.
const PATIENCE: Duration = Duration::from_mins(30);

pub(crate) async fn measure(server: &mut Server, items: usize) -> anyhow::Result<()> {
    server.start(&ENGINE).await?;
    beside_calls(server.target(), items).await?;
    killed(server, items).await
}

async fn beside_calls(target: &Target, items: usize) -> anyhow::Result<()> {
    let single = |name: &'static str| move |n: usize| Ask::now(&format!("{name}{n}"), &format!("{name} {n}"));
    let alone = figure(&open_loop(target, RATE, |n| n < ALONE, single("before")).await?);
    let (lines, over) = (lines("beside", items), Cell::new(false));
    let batch = async {
        let times = whole(target, lines).await?;
        over.set(true);
        Ok(times)
    };
    let calls = open_loop(target, RATE, |_| !over.get(), single("beside"));
    let (sent, [accepted, completed]) = try_join!(calls, batch)?;
    let beside = figure(&sent);
    println!("| a batch of {items}: sent to accepted (202), s | | {accepted:.2} | |");
    println!("| the same, sent to completed, s | | {completed:.1} | |");
    row("single calls, before the batch", &alone);
    row("single calls, beside the batch", &beside);
    let times = |beside: f64, alone: f64| beside / alone;
    println!(
        "| the same, times as long | | {:.2} | {:.2} |",
        times(beside.p50, alone.p50),
        times(beside.p99, alone.p99)
    );
    Ok(())
}

fn figure(sent: &[Sent]) -> Figure {
    let mut took: Vec<_> = sent.iter().map(|sent| sent.took).collect();
    Figure { rate: RATE.into(), p50: percentile(&mut took, 0.5), p99: percentile(&mut took, 0.99) }
}

/// Sends a batch and waits for its end. Seconds to its acceptance, and to that.
async fn whole(target: &Target, lines: Bytes) -> anyhow::Result<[f64; 2]> {
    let mut client = Client::open(target).await?;
    let sent = Instant::now();
    let batch = client.batch("beside", lines).await?;
    let accepted = sent.elapsed().as_secs_f64();
    completed(&mut client, &batch).await?;
    Ok([accepted, sent.elapsed().as_secs_f64()])
}

async fn completed(client: &mut Client, batch: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !has_completed(client, batch).await? {
        ensure!(Instant::now() < end, "{batch} does not end");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn has_completed(client: &mut Client, batch: &str) -> anyhow::Result<bool> {
    let document = client.read(&format!("/v1/batches/{batch}")).await?;
    let status = document["status"].as_str().context("no status")?;
    ensure!(matches!(status, "processing" | "completed"), "{document}");
    Ok(status == "completed")
}

/// What is left of a batch whose server was killed and started again on the same data.
async fn killed(server: &mut Server, items: usize) -> anyhow::Result<()> {
    let gap = GAP * u32::try_from(items)?;
    let mut client = Client::open(server.target()).await?;
    let units = client.units().await?;
    let batch = client.batch("killed", lines("killed", items)).await?;
    let mut kills = 0;
    while kills < KILLS {
        tokio::time::sleep(gap).await;
        if has_completed(&mut client, &batch).await? {
            break;
        }
        server.kill()?;
        server.start(&ENGINE).await?;
        client = Client::open(server.target()).await?;
        kills += 1;
    }
    completed(&mut client, &batch).await?;
    let (results, distinct) = results(&mut client, &batch).await?;
    let executions = server.executions()?;
    let twice = executions.len() - executions.iter().collect::<HashSet<_>>().len();
    let units = client.units().await? - units;
    println!(
        "| a batch of {items}, {kills} times `kill -9`, {:.1} s apart: results | {results} | | |",
        gap.as_secs_f64()
    );
    println!("| the same, distinct names among them | {distinct} | | |");
    println!("| the same, steps run twice | {twice} | | |");
    println!("| the same, units charged | {units} | | |");
    Ok(())
}

/// Lines, and different names in them.
async fn results(client: &mut Client, batch: &str) -> anyhow::Result<(usize, usize)> {
    let (status, body) = client.get(&format!("/v1/batches/{batch}/results")).await?;
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
    let name = |line: &[u8]| {
        let line: serde_json::Value = serde_json::from_slice(line)?;
        line["custom_id"].as_str().map(str::to_owned).context("a result without a name")
    };
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let names: Vec<_> = lines.map(name).collect::<anyhow::Result<_>>()?;
    Ok((names.len(), names.iter().collect::<HashSet<_>>().len()))
}

/// Images that are all different, as lines of JSON.
fn lines(name: &str, items: usize) -> Bytes {
    let line = |n: usize| {
        let image = STANDARD.encode(format!("{:IMAGE$}", format!("FAKE {name} {n}")));
        format!("{{\"custom_id\":\"{name}-{n}\",\"image_base64\":\"{image}\"}}\n")
    };
    (0..items).map(line).collect::<String>().into()
}
