use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use eyebolt_types::Clock;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Access, Place, Settings,
    http::{App, Server, Stopped},
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
    let runner = super::start(settings)?;
    if runner.engine.models().all().is_empty() {
        tracing::warn!(dir = %settings.models_dir().display(), "no model is installed: run eyebolt setup");
    }
    let access = Access::new(place, runner.clock.clone(), &settings.access);
    let app = App::new(runner.analyzer(), access, settings.http.clone());
    let listen = settings.http.listen;
    Server::bind(app)
        .await
        .with_context(|| format!("can't listen at {listen}; --listen names another address"))
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
