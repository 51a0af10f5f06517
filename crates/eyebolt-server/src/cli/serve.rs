use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use eyebolt_types::Clock;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Access, Analyzer, Events, Jobs, Outbound, Place, Quotas, Runner, Settings, Webhooks,
    http::{App, Rooms, Server, Stopped},
    jobs::{Rules, Tools},
    outbound::Resolver,
};

/// Of `eyebolt serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

pub(super) async fn run(arguments: Arguments, mut settings: Settings) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(&settings.log)?;
    if let Some(listen) = arguments.listen {
        settings.http.listen = listen;
    }
    let (place, _lock) = Place::open(&settings.storage, &settings.access, &Clock::system()).await?;
    let server = bind(&settings, &place).await?;
    // Machines that start the server read the address here; people read it in the log.
    tracing::info!(address = %server.local_addr()?, "listening");
    let (signal, mut failed) = (stop_signal()?, false);
    let stopped = server
        .run(async {
            tokio::select! {
                () = signal => {}
                reason = place.store.failure() => {
                    tracing::error!(reason, "the database failed: the server ends, since only a new start reads what it holds");
                    failed = true;
                }
            }
        })
        .await;
    tracing::info!(?stopped, "stopped");
    Ok(if stopped == Stopped::Drained && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A server of these settings in this place, listening. Models load in the background.
pub(super) async fn bind(settings: &Settings, place: &Place) -> anyhow::Result<Server> {
    let mut runner = super::start(settings)?;
    runner.clock = Clock::steady(place.store.newest_pending().await?);
    if runner.engine.models().all().is_empty() {
        tracing::warn!(dir = %settings.models_dir().display(), "no model is installed: run eyebolt setup");
    }
    let app = app(settings, place, runner).await?;
    let listen = settings.http.listen;
    Server::bind(app)
        .await
        .with_context(|| format!("can't listen at {listen}; --listen names another address"))
}

/// The rooms of these settings in this place, at work.
pub(super) async fn app(settings: &Settings, place: &Place, runner: Runner) -> anyhow::Result<App> {
    let (clock, threads) = (runner.clock.clone(), settings.threads());
    let access = Access::new(place, clock.clone(), &settings.access);
    let analyzer = runner.analyzer();
    #[cfg(feature = "torture")]
    let analyzer = crate::torture::analyzer(&clock).unwrap_or(analyzer);
    let outbound = Outbound::new(&settings.outbound, Resolver::system());
    let instance = place.instance()?;
    let webhooks = Webhooks::new((place, &instance), outbound, settings.webhooks.clone(), clock.clone());
    let jobs = jobs(settings, place, (analyzer.clone(), webhooks.clone(), clock.clone()), threads)?;
    jobs.start().await?;
    webhooks.start().await?;
    let events = Events::new(place.store.clone(), settings.events.clone(), clock);
    events.start();
    Ok(App::new(analyzer, Rooms { access, jobs, events, webhooks }, settings.http.clone()))
}

fn jobs(
    settings: &Settings,
    place: &Place,
    (analyzer, webhooks, clock): (Analyzer, Webhooks, Clock),
    threads: usize,
) -> anyhow::Result<Jobs> {
    let quotas = Quotas::new(settings.quotas.clone(), clock.clone());
    let tools =
        Tools { store: place.store.clone(), blobs: place.blobs()?, quotas, analyzer, webhooks, clock };
    let rules = Rules {
        jobs: settings.jobs.clone(),
        idempotency: settings.idempotency.clone(),
        dedup: settings.dedup.clone(),
        admission: settings.admission.clone(),
    };
    Ok(Jobs::new(tools, rules, (&place.instance()?, threads)))
}

/// Resolves at SIGTERM or Ctrl-C.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
