use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::digest;
use bytes::Bytes;
use eyebolt_engine::{annotate, decode};
use eyebolt_types::{Job, JobStatus, Problem, id::RequestId};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::sleep;

use super::{
    batch,
    call::{self, Call, Reply},
    output,
    pictures::{self, Picture},
    server::{self, Address, Server},
    table,
    wish::Wish,
};
use crate::{ApiError, Declared, Runner, Settings, ingest, jobs::document};

/// Of `eyebolt analyze`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Images, or folders of images.
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// Take the folders in folders too.
    #[arg(long, short)]
    recursive: bool,
    #[command(flatten)]
    wish: Wish,
    /// Draw what was found and write it to this PNG file; takes one image.
    #[arg(long, value_name = "OUT.png")]
    annotate: Option<PathBuf>,
    /// Print JSON, also on a terminal: the job of an image, or its problem. Of a folder, or several images, a line for each:
    /// `{"file": …, "job": …}` or `{"file": …, "error": …}`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    address: Address,
}

pub(super) async fn run(arguments: Arguments, mut settings: Settings) -> anyhow::Result<ExitCode> {
    // Images come one after another: more sessions would only be loaded.
    settings.engine.sessions = 1;
    super::log_to_stderr(&crate::settings::LogSettings {
        filter: "warn".to_owned(),
        ..settings.log.clone()
    })?;
    let files = pictures::all(&arguments.files, arguments.recursive)?;
    check(&arguments, files.len())?;
    let failed = look_at(&files, &arguments, &settings).await?;
    Ok(if failed > 0 { super::SOME_FAILED.into() } else { ExitCode::SUCCESS })
}

fn check(arguments: &Arguments, files: usize) -> anyhow::Result<()> {
    let (draws, piped) = (arguments.annotate.is_some(), arguments.wish.is_piped());
    anyhow::ensure!(!draws || files == 1, "--annotate takes one image, {files} are named");
    anyhow::ensure!(!draws || !piped, "--annotate draws what features found, not the steps of a pipeline");
    Ok(())
}

/// How many failed. What would go wrong with each further image too ends it.
async fn look_at(files: &[Picture], arguments: &Arguments, settings: &Settings) -> anyhow::Result<usize> {
    let of_folder = arguments.files.iter().any(|path| path.is_dir());
    let (many, count) = (of_folder || files.len() > 1, files.len());
    let bar = if of_folder { batch::bar(count as u64, "analyzed") } else { ProgressBar::hidden() };
    let asker = Asker::new(arguments, settings)?;
    let table = !arguments.json && io::stdout().is_terminal();
    let mut failed = 0;
    for (done, picture) in files.iter().enumerate() {
        let outcome = match asker.look(picture, of_folder).await {
            Err(error) if many => {
                return Err(error.context(format!("stopped after {done} of {count} images")));
            }
            Ok(Outcome::Unreadable(error)) if !many => {
                return Err(error).with_context(|| format!("{} can't be read", picture.path.display()));
            }
            outcome => outcome?,
        };
        bar.inc(1);
        bar.suspend(|| outcome.print(&picture.path, (table, many)))?;
        failed += usize::from(outcome.is_failure());
        if let (Some(out), Outcome::Job(job, bytes)) = (&arguments.annotate, &outcome) {
            draw(bytes, job, out, settings)?;
        }
    }
    bar.finish_and_clear();
    if failed > 0 && many {
        eprintln!("eyebolt: {failed} of {count} images failed");
    }
    Ok(failed)
}

/// Between two looks at a job, where the server does not say.
const LOOK: Duration = Duration::from_secs(1);

/// What became of an image.
enum Outcome {
    Job(Box<Job>, Bytes),
    Refused(Box<Problem>),
    Unreadable(io::Error),
}

/// The same among others.
#[derive(Serialize)]
struct Line<'a> {
    /// As the arguments lead to it.
    file: String,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
enum What<'a> {
    #[serde(rename = "job")]
    Job(&'a Job),
    #[serde(rename = "error")]
    Refused(&'a Problem),
    #[serde(rename = "error")]
    Unreadable { code: &'static str, detail: String },
}

impl Outcome {
    fn is_failure(&self) -> bool {
        !matches!(self, Self::Job(job, _) if job.error.is_none() && job.status == JobStatus::Succeeded)
    }

    /// As a table, or else a line of JSON; which names the file where it is one of many.
    fn print(&self, file: &Path, (table, many): (bool, bool)) -> anyhow::Result<()> {
        match self {
            Self::Job(job, _) if table => output::lines(&table::of_job(file, job)),
            Self::Refused(problem) if table => output::lines(&table::of_problem(file, problem)),
            Self::Unreadable(error) if table => {
                output::line(format_args!("{}  can't be read: {error}", file.display()))
            }
            Self::Job(job, _) if !many => output::line(document::write(job)),
            Self::Refused(problem) if !many => output::line(document::write(problem)),
            _ => output::line(document::write(&Line { file: file.display().to_string(), what: self.what() })),
        }
    }

    fn what(&self) -> What<'_> {
        match self {
            Self::Job(job, _) => What::Job(job),
            Self::Refused(problem) => What::Refused(problem),
            // Of no server: the catalogue does not know it.
            Self::Unreadable(error) => What::Unreadable {
                code: "unreadable_file",
                detail: format!("The file can't be read: {error}"),
            },
        }
    }
}

/// Who is asked.
enum Asker {
    Here { runner: Runner, fields: Vec<(String, String)> },
    There { server: Server, settings: call::Settings },
}

impl Asker {
    fn new(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Self> {
        let wish = &arguments.wish;
        if let Some(server) = arguments.address.named()? {
            let settings = match wish.document()? {
                Some(document) => call::Settings::Document(document.into()),
                None => call::Settings::Query(wish.query()?.into()),
            };
            return Ok(Self::There { server, settings });
        }
        anyhow::ensure!(!wish.is_piped(), "a pipeline is run by a server: name one, --server URL");
        Ok(Self::Here { runner: super::start(settings)?, fields: wish.fields()? })
    }

    async fn look(&self, picture: &Picture, of_folder: bool) -> anyhow::Result<Outcome> {
        let bytes = match std::fs::read(&picture.path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => return Ok(Outcome::Unreadable(error)),
        };
        let answer = match self {
            Self::Here { runner, fields } => here((runner, fields), &picture.path, &bytes)
                .await
                .map_err(|error| Problem::from(error).into()),
            Self::There { server, settings } => {
                // Of a folder the same command is the same intent: what was answered before Ctrl-C is not run again.
                let intent = of_folder.then(|| intent(settings, &picture.name, &bytes));
                there((server, settings), &bytes, intent).await?
            }
        };
        Ok(answer.map_or_else(Outcome::Refused, |job| Outcome::Job(job.into(), bytes)))
    }
}

async fn here(
    (runner, fields): (&Runner, &[(String, String)]),
    file: &Path,
    bytes: &Bytes,
) -> Result<Job, ApiError> {
    let request = ingest::request_of(fields.to_vec())?;
    let declared = Declared::of(file.file_name().and_then(|name| name.to_str()), None);
    runner.run(bytes.clone(), &request, &declared).await
}

/// The idempotency key of an image of a folder: the same for the same image, name and settings.
fn intent(settings: &call::Settings, name: &str, bytes: &[u8]) -> String {
    let (call::Settings::Query(asked) | call::Settings::Document(asked)) = settings;
    let digest = hex::encode(digest::digest(&digest::SHA256, bytes));
    let whole = digest::digest(&digest::SHA256, format!("{asked}\n{name}\n{digest}").as_bytes());
    format!("cli-{}", hex::encode(whole))
}

/// The end of an image's job, or why it has none.
async fn there(
    (server, settings): (&Server, &call::Settings),
    bytes: &[u8],
    intent: Option<String>,
) -> anyhow::Result<Result<Job, Box<Problem>>> {
    let intent = intent.unwrap_or_else(|| RequestId::new().to_string());
    let mut reply = server.ask(|| Call::analyze(bytes, settings, (None, Some(intent.clone())))).await?;
    if reply.status >= 300 && !server::refuses_all(&reply) {
        return Ok(Err(reply.problem().ok_or_else(|| server::refusal(&reply))?.into()));
    }
    loop {
        let job = job_of(&reply)?;
        if job.status.is_terminal() {
            return Ok(Ok(job));
        }
        // Accepted, but not done in the time that the server waits.
        let path = || format!("/v1/jobs/{}?wait=55", job.id);
        reply = server.ask(|| Call { path: path(), ..Call::default() }).await?;
        if !job_of(&reply)?.status.is_terminal() {
            sleep(reply.retry_after.unwrap_or(LOOK)).await;
        }
    }
}

fn job_of(reply: &Reply) -> anyhow::Result<Job> {
    if reply.status >= 300 {
        return Err(server::refusal(reply));
    }
    serde_json::from_slice(&reply.body).context("the server's answer is no job")
}

/// Percent-encodes what a query value can't carry.
pub(super) fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~,@".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn draw(bytes: &[u8], job: &Job, out: &Path, settings: &Settings) -> anyhow::Result<()> {
    let header = eyebolt_engine::probe::probe(bytes, &settings.limits)?;
    let picture = decode::decode(bytes, &header, &decode::plan(&header, None))?;
    let results = job.results.features().cloned().unwrap_or_default();
    let png = annotate::to_png(&annotate::draw(picture, &results));
    std::fs::write(out, png).with_context(|| format!("{} can't be written", out.display()))
}
