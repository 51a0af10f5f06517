use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use eyebolt_types::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    Access, Analyzer, Batches, Clients, Events, Jobs, Outbound, Place, Quotas, Runner, Settings, Webhooks,
    batches,
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

pub(super) async fn run(
    arguments: Arguments,
    mut settings: Settings,
    file: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(&settings.log)?;
    if let Some(listen) = arguments.listen {
        settings.http.listen = listen;
    }
    let (place, _lock) = Place::open(&settings.storage, &settings.access, &Clock::system()).await?;
    super::tell_new(&place);
    let (server, quotas) = bind(&settings, &place).await?;
    let reloading = tokio::spawn(reload_on_signal(signal(SignalKind::hangup())?, file, quotas));
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
    reloading.abort();
    tracing::info!(?stopped, "stopped");
    Ok(if stopped == Stopped::Drained && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A server of these settings in this place, listening. Models load in the background.
pub(super) async fn bind(settings: &Settings, place: &Place) -> anyhow::Result<(Server, Quotas)> {
    let mut runner = super::start(settings)?;
    runner.clock = Clock::steady(place.store.newest_pending().await?);
    if runner.engine.models().all().is_empty() {
        tracing::warn!(dir = %settings.models_dir().display(), "no model is installed: run eyebolt setup");
    }
    let app = app(settings, place, runner).await?;
    let (listen, quotas) = (settings.http.listen, app.quotas());
    let server = Server::bind(app).await;
    let server =
        server.with_context(|| format!("can't listen at {listen}; --listen names another address"))?;
    Ok((server, quotas))
}

/// At each SIGHUP section `quotas` of the settings is read again. Where anything in them is wrong, all stays as it is.
async fn reload_on_signal(mut signal: Signal, file: Option<PathBuf>, quotas: Quotas) {
    while signal.recv().await.is_some() {
        reload(file.as_deref(), env::vars(), &quotas);
    }
}

fn reload(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>, quotas: &Quotas) {
    match Settings::load(file, variables) {
        Ok(settings) => {
            let plans: Vec<_> = settings.quotas.plans.keys().cloned().collect();
            let late = quotas.reload(settings.quotas);
            tracing::info!(
                event = "quotas.reloaded",
                ?plans,
                "section quotas of the settings was read again"
            );
            if let Some(late) = late {
                tracing::warn!(late, "a part of it is not in force");
            }
        }
        Err(error) => {
            tracing::error!(event = "quotas.not_reloaded", %error, "the settings have mistakes: all stays as it was");
        }
    }
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
    let jobs = jobs(settings, place, (analyzer.clone(), webhooks.clone(), clock.clone()), threads).await?;
    jobs.start().await?;
    let batches = batches(settings, place, (&jobs, analyzer.clone(), webhooks.clone(), clock.clone()))?;
    batches.start().await?;
    webhooks.start().await?;
    let events = Events::new(place.store.clone(), settings.events.clone(), clock);
    events.start();
    Ok(App::new(analyzer, Rooms { access, jobs, batches, events, webhooks }, settings.http.clone()))
}

async fn jobs(
    settings: &Settings,
    place: &Place,
    (analyzer, webhooks, clock): (Analyzer, Webhooks, Clock),
    threads: usize,
) -> anyhow::Result<Jobs> {
    let quotas = Quotas::open(settings.quotas.clone(), clock.clone()).await?;
    let (store, blobs) = (place.store.clone(), place.blobs()?);
    let clients = Clients::new(settings.runaway.clone(), store.clone(), clock.clone());
    let tools = Tools { store, blobs, quotas, clients, analyzer, webhooks, clock };
    let rules = Rules {
        jobs: settings.jobs.clone(),
        idempotency: settings.idempotency.clone(),
        dedup: settings.dedup.clone(),
        admission: settings.admission.clone(),
    };
    Ok(Jobs::new(tools, rules, (&place.instance()?, threads)))
}

fn batches(
    settings: &Settings,
    place: &Place,
    (jobs, analyzer, webhooks, clock): (&Jobs, Analyzer, Webhooks, Clock),
) -> anyhow::Result<Batches> {
    let (store, blobs, jobs) = (place.store.clone(), place.blobs()?, jobs.clone());
    let tools = batches::Tools { store, blobs, jobs, analyzer, webhooks, clock };
    let whose = (place.instance()?, settings.idempotency.retention);
    Ok(Batches::new(tools, settings.batches.clone(), (&whose.0, whose.1)))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use eyebolt_types::{Limits, Policy};

    use super::*;

    #[tokio::test]
    async fn plans_are_read_again_and_a_file_with_mistakes_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eyebolt.toml");
        let quotas = Quotas::open(Settings::default().quotas, Clock::system()).await.unwrap();
        let read_again = |text: &str| {
            fs::write(&file, text).unwrap();
            reload(Some(&file), std::iter::empty(), &quotas);
            quotas.settings().plans["standard"].clone()
        };
        let sixty = Limits([(Policy::RequestsPerMinute, 60)].into());
        assert_eq!(read_again("[quotas.plans.standard]\nrequests_per_minute = 60"), sixty);
        for mistake in [
            "[quotas.plans.standard]\nrequests_per_minute = -1",
            "[quotas.plans.standard]\nrequests_per_hour = 1",
            "[quotas]\nplan = 'gone'",
            "[quotas]\nfallback_share = 2.0",
            "[http]\nlisten = 'here'",
            "[quotas",
        ] {
            assert_eq!(read_again(mistake), sixty, "{mistake}");
        }
        fs::remove_file(&file).unwrap();
        reload(Some(&file), std::iter::empty(), &quotas);
        assert_eq!(quotas.settings().plans["standard"], sixty);
        assert_eq!(
            read_again("[http]\nmax_connections = 7"),
            Limits::default(),
            "what is left out is the default"
        );
    }
}
