use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Settings,
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
        anyhow::ensure!(
            listen.ip().is_loopback(),
            "--listen {listen}: until there are API keys the server takes loopback addresses alone, such as 127.0.0.1:8080"
        );
        settings.http.listen = listen;
    }
    let server = bind(&settings).await?;
    // Machines that start the server read the address here; people read it in the log.
    tracing::info!(address = %server.local_addr()?, "listening");
    let stopped = server.run(stop_signal()?).await;
    tracing::info!(?stopped, "stopped");
    Ok(if stopped == Stopped::Drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A server of these settings, listening. Models load in the background.
pub(super) async fn bind(settings: &Settings) -> anyhow::Result<Server> {
    let runner = super::start(settings)?;
    if runner.engine.models().all().is_empty() {
        tracing::warn!(dir = %settings.models_dir().display(), "no model is installed: run eyebolt setup");
    }
    let app = App::new(runner.analyzer(), settings.http.clone());
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
