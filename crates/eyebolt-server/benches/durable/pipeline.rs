//! What a step of a pipeline costs beside its model: jobs with a pipeline beside jobs with one feature.

use serde_json::json;

use crate::{
    figures::{millis, row},
    load::{Ask, Client, closed_loop},
    server::{Engine, Server},
};

const CLIENTS: usize = 8;
const ROUNDS: usize = 2;

const FEATURE: &str = "features=objects";

/// Objects, and what each of them is: the engine finds three.
const PIPELINE: &str = "pipeline=bench";

/// What a job costs.
struct Cost {
    /// The server's processor time, milliseconds.
    processor: f64,
    /// A unit is a step, on the whole image or on a part.
    steps: f64,
}

pub(crate) async fn measure(server: &mut Server, jobs: usize) -> anyhow::Result<()> {
    server.start(&Engine::default()).await?;
    let steps = json!([
        {"id": "find", "feature": "objects"},
        {"id": "name", "feature": "labels", "for_each": {"step": "find"}},
    ]);
    let named = json!({"name": "bench", "pipeline": {"steps": steps}});
    Client::open(server.target()).await?.create("/v1/pipelines", &named).await?;
    // What is done only once costs nothing after this.
    for what in [FEATURE, PIPELINE] {
        let ask = |n: usize| Ask::now(&format!("first-{what}-{n}"), &format!("{what} {n}")).of(what);
        closed_loop(server.target(), CLIENTS, jobs.div_ceil(10), ask).await?;
    }
    for round in 1..=ROUNDS {
        let plain = each(server, ("one feature", FEATURE), (round, jobs)).await?;
        let pipeline = each(server, ("a pipeline", PIPELINE), (round, jobs)).await?;
        let more = (pipeline.processor - plain.processor) / (pipeline.steps - plain.steps);
        println!("| a step more: the server's processor time, ms | | {more:.3} | |");
    }
    Ok(())
}

async fn each(
    server: &Server,
    (name, what): (&str, &'static str),
    (round, jobs): (usize, usize),
) -> anyhow::Result<Cost> {
    let ask = |n: usize| Ask::now(&format!("{round}-{what}-{n}"), &format!("{round} {what} {n}")).of(what);
    let mut client = Client::open(server.target()).await?;
    let (time, units) = (server.processor_time()?, client.units().await?);
    let figure = closed_loop(server.target(), CLIENTS, jobs, ask).await?;
    let processor = millis(server.processor_time()?.saturating_sub(time)) / jobs as f64;
    let steps = (client.units().await? - units) as f64 / jobs as f64;
    row(&format!("jobs with {name} ({steps} steps), {CLIENTS} clients"), &figure);
    println!("| the server's processor time of each, ms | | {processor:.3} | |");
    Ok(Cost { processor, steps })
}
