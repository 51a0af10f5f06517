//! The command line: one module a subcommand.

#![deny(clippy::print_stdout, reason = "it panics where nobody reads: cli::output")]

mod analyze;
mod audit;
mod batch;
mod bench;
mod call;
mod check_config;
mod doctor;
mod key;
mod limit;
mod output;
mod pictures;
mod project;
mod quickstart;
mod serve;
mod server;
mod setup;
mod table;
mod usage;
mod wish;

use std::{env, io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Parser, Subcommand};
use eyebolt_engine::Engine;
use eyebolt_types::Clock;
use tracing_subscriber::EnvFilter;

use crate::{
    Place, Runner, Settings,
    settings::{LogFormat, LogSettings},
};

/// What ends `eyebolt analyze` and `batch create` where they did their work, and some of the images failed.
const SOME_FAILED: u8 = 3;

/// A self-hosted computer-vision API that a client can safely retry.
#[derive(Debug, Parser)]
#[command(
    name = "eyebolt",
    version,
    max_term_width = 110,
    after_help = "Exit status: 0 all went well, 1 it could not be done, 2 the command line has a mistake, 3 it was done and some of \
                  the images failed."
)]
struct Arguments {
    /// Settings file; default: eyebolt.toml where there is one.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with models and runtime library.
    #[arg(long, global = true, value_name = "DIR")]
    models_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring models and runtime library, start a server, send it one picture, show the answer.
    Quickstart(quickstart::Arguments),
    /// Bring models and runtime library.
    Setup(setup::Arguments),
    /// Answer requests until SIGTERM or Ctrl-C.
    Serve(serve::Arguments),
    /// Say what is in images, without a server or through one.
    Analyze(analyze::Arguments),
    /// Send many images to a server at once, and read what was found.
    #[command(subcommand)]
    Batch(batch::Command),
    /// Make and show projects: the customers of this server.
    #[command(subcommand)]
    Project(project::Command),
    /// Make, show, rotate and revoke the API keys of projects.
    #[command(subcommand)]
    Key(key::Command),
    /// Say whether the ledger is sound: every job reserved, charged once, and settled.
    Audit(audit::Arguments),
    /// What was charged, for a billing system.
    #[command(subcommand)]
    Usage(usage::Command),
    /// Check settings, data, models, runtime library and decoders.
    Doctor,
    /// Print the settings that are in force, and the variables that set them.
    CheckConfig,
    /// Print the API description (OpenAPI 3.1, JSON).
    Openapi,
    /// Measure this machine: print the tables of docs/performance.md.
    Bench(bench::Arguments),
    /// Decode for a server; started by it.
    #[command(hide = true)]
    DecodeWorker,
}

/// The hidden subcommand that turns this program into a decoder process.
const DECODE_WORKER: &str = "decode-worker";

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::DecodeWorker) {
        return eyebolt_engine::decode::worker::decode_worker_main();
    }
    match run(arguments) {
        Ok(code) => code,
        Err(error) if error.is::<output::NobodyReads>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eyebolt: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::load(arguments.config.as_deref(), env::vars())?;
    if let Some(dir) = arguments.models_dir {
        settings.models.dir = dir;
    }
    match arguments.command {
        Command::Quickstart(arguments) => in_runtime(quickstart::run(arguments, settings)),
        Command::Setup(arguments) => setup::run(&arguments, &settings),
        Command::Serve(listening) => in_runtime(serve::run(listening, settings, arguments.config)),
        Command::Analyze(arguments) => in_runtime(analyze::run(arguments, settings)),
        Command::Batch(command) => in_runtime(batch::run(command)),
        Command::Project(command) => in_runtime(project::run(command, settings)),
        Command::Key(command) => in_runtime(key::run(command, settings)),
        Command::Audit(arguments) => in_runtime(audit::run(arguments, settings)),
        Command::Usage(command) => in_runtime(usage::run(command, settings)),
        Command::Doctor => in_runtime(doctor::run(settings)),
        Command::CheckConfig => check_config::run(&settings),
        Command::Openapi => {
            output::line(crate::http::document().to_pretty_json()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(arguments) => in_runtime(bench::run(arguments, settings)),
        Command::DecodeWorker => unreachable!("handled before settings are read"),
    }
}

fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let done = runtime.block_on(work);
    // Whatever still blocks a thread must not keep the process.
    runtime.shutdown_background();
    done
}

/// Writes the log to standard error, as the settings say.
fn log_to_stderr(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .with_context(|| format!("log.filter is {:?}, which is no filter", settings.filter))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Whoever stands in another folder than they believe sees it, before they miss their projects.
fn tell_new(place: &Place) {
    if place.is_new {
        eprintln!("new data folder {}", place.whole_path());
    }
}

/// Starts the engine of these settings, with decoders in processes of this program.
fn start(settings: &Settings) -> anyhow::Result<Runner> {
    let program = env::current_exe().context("this program's own path can't be found")?;
    let command = vec![program.to_string_lossy().into_owned(), DECODE_WORKER.to_owned()];
    let engine = Engine::start(settings.engine(command))?;
    for error in engine.models().errors() {
        tracing::warn!(error, "a model folder can't be used");
    }
    Ok(Runner {
        engine: Arc::new(engine),
        clock: Clock::system(),
        mismatch: settings.ingest.extension_mismatch,
    })
}
