use std::{io::IsTerminal, process::ExitCode};

use anyhow::Context;
use eyebolt_store::ApiSecret;
use eyebolt_types::{Clock, Job, Mode, Problem};
use jiff::SignedDuration;

use super::{
    call::{self, Connection},
    serve, setup, table,
};
use crate::{
    Place, Settings,
    access::{KeyError, KeyOrder, Keys},
};

/// Of `eyebolt quickstart`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Go on serving after the answer; default on a terminal.
    #[arg(long, overrides_with = "once")]
    keep: bool,
    /// End after the answer; default where the output is not a terminal.
    #[arg(long)]
    once: bool,
}

/// One picture with something for every feature.
pub(super) const SAMPLE: &[u8] = include_bytes!("../../assets/sample.jpg");
const ASKED: &str = "features=objects,faces,text,barcodes,labels";

/// The project of first looks.
const PROJECT: &str = "quickstart";

/// A new key each time, since the last one's secret is nowhere. It ends by itself.
async fn new_key(place: &Place) -> anyhow::Result<ApiSecret> {
    let keys = Keys::new(place, Clock::system());
    let project = match keys.create_project(PROJECT, Mode::Live).await {
        Ok((project, _)) => project,
        Err(KeyError::ProjectExists) => keys.project(PROJECT).await?,
        Err(error) => return Err(error.into()),
    };
    let lasts = Some(SignedDuration::from_hours(24 * 7));
    let order = KeyOrder { lasts, ..KeyOrder::new(Mode::Live, PROJECT) };
    Ok(keys.create(project.id, order).await?.secret)
}

#[expect(clippy::print_stdout, reason = "the server that it is must not end with whoever reads")]
pub(super) async fn run(arguments: Arguments, mut settings: Settings) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(&crate::settings::LogSettings {
        filter: "warn".to_owned(),
        ..settings.log.clone()
    })?;
    println!("1. Models and runtime library in {}", settings.models_dir().display());
    // Fetching and converting block: away from the threads that serve.
    let asked = settings.clone();
    tokio::task::spawn_blocking(move || setup::bring(&asked, None, Vec::new())).await??;
    if std::net::TcpListener::bind(settings.http.listen).is_err() {
        // Somebody else has the port: a first look needs any port, not that one.
        settings.http.listen.set_port(0);
    }
    let (place, _lock) = Place::open(&settings.storage, &settings.access, &Clock::system()).await?;
    super::tell_new(&place);
    let key = new_key(&place).await?;
    let (server, _) = serve::bind(&settings, &place).await?;
    let url = format!("http://{}", server.local_addr()?);
    println!("2. Server at {url}, data in {}, project {PROJECT:?}", place.folder.display());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    println!("3. POST {url}/v1/analyze?{ASKED} with a sample picture:\n");
    let asked = call::Settings::Query(ASKED.into());
    let reply = Connection::open(&url).await?.analyze(SAMPLE, &asked, (Some(key.reveal()), None)).await?;
    let answered = reply.status == 200;
    if answered {
        let job: Job = serde_json::from_slice(&reply.body).context("the answer is no job")?;
        print!("{}", table::of_job("sample.jpg".as_ref(), &job));
    } else {
        let problem: Problem = serde_json::from_slice(&reply.body).context("the answer is no problem")?;
        print!("{}", table::of_problem("sample.jpg".as_ref(), &problem));
    }
    println!("\nYour own picture:\n  curl -H 'Authorization: Bearer {}' \\", key.reveal());
    println!("    -H \"Idempotency-Key: $(date +%s%N)\" \\");
    println!("    -F image=@photo.jpg '{url}/v1/analyze?features=objects,text'");
    println!("The API: {url}/openapi.json    The models: {url}/v1/models    The errors: {url}/v1/errors");
    if arguments.keep || (!arguments.once && std::io::stdout().is_terminal()) {
        println!("Serving until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    } else {
        println!("Start the server again with: eyebolt serve");
    }
    let _ = stop.send(());
    serving.await?;
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
