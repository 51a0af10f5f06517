use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use aws_lc_rs::digest;
use bytes::Bytes;
use eyebolt_engine::{annotate, decode};
use eyebolt_types::{Job, Problem};
use indicatif::ProgressBar;

use super::{
    batch,
    call::{self, Connection},
    output,
    pictures::{self, Picture},
    table,
    wish::Wish,
};
use crate::{Declared, Runner, Settings, ingest, jobs::document};

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
    /// Print JSON, also on a terminal: one line for each image.
    #[arg(long)]
    json: bool,
    /// Ask this server instead of this process.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// An API key of the server; default: the variable `EYEBOLT_KEY`, which other users of this machine can't see.
    #[arg(long, value_name = "KEY", requires = "server")]
    key: Option<String>,
}

pub(super) async fn run(arguments: Arguments, mut settings: Settings) -> anyhow::Result<ExitCode> {
    // Images come one after another: more sessions would only be loaded.
    settings.engine.sessions = 1;
    super::log_to_stderr(&crate::settings::LogSettings {
        filter: "warn".to_owned(),
        ..settings.log.clone()
    })?;
    let (files, of_folder) = (
        pictures::all(&arguments.files, arguments.recursive)?,
        arguments.files.iter().any(|path| path.is_dir()),
    );
    anyhow::ensure!(
        arguments.annotate.is_none() || files.len() == 1,
        "--annotate takes one image, {} are named",
        files.len()
    );
    anyhow::ensure!(
        arguments.annotate.is_none() || !arguments.wish.is_piped(),
        "--annotate draws what features found, not the steps of a pipeline"
    );
    let bar = if of_folder { batch::bar(files.len() as u64, "analyzed") } else { ProgressBar::hidden() };
    let asker = Asker::new(&arguments, &settings)?;
    let as_table = !arguments.json && std::io::stdout().is_terminal();
    let mut refused = false;
    for Picture { path: file, name } in &files {
        let bytes =
            Bytes::from(std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?);
        // Of a folder the same command is the same intent: what was answered before Ctrl-C is not run again.
        let intent = if of_folder { asker.intent(file, name)? } else { None };
        let answer = asker.ask(file, (bytes.clone(), intent)).await?;
        bar.inc(1);
        bar.suspend(|| match (&answer, as_table) {
            (Ok(job), true) => output::lines(&table::of_job(file, job)),
            (Ok(job), false) => output::line(document::write(job)),
            (Err(problem), true) => output::lines(&table::of_problem(file, problem)),
            (Err(problem), false) => output::line(document::write(problem)),
        })?;
        refused |= answer.as_ref().map_or(true, |job| job.error.is_some());
        if let (Some(out), Ok(job)) = (&arguments.annotate, &answer) {
            draw(&bytes, job, out, &settings)?;
        }
    }
    bar.finish_and_clear();
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Who is asked.
enum Asker {
    Here { runner: Runner, fields: Vec<(String, String)> },
    Server { url: String, key: Option<String>, settings: call::Settings },
}

impl Asker {
    fn new(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Self> {
        let wish = &arguments.wish;
        if let Some(url) = arguments.server.clone() {
            let settings = match wish.document()? {
                Some(document) => call::Settings::Document(document.into()),
                None => call::Settings::Query(wish.query()?.into()),
            };
            let key = arguments.key.clone().or_else(|| std::env::var("EYEBOLT_KEY").ok());
            return Ok(Self::Server { url, key, settings });
        }
        anyhow::ensure!(!wish.is_piped(), "a pipeline is run by a server: name one, --server URL");
        Ok(Self::Here { runner: super::start(settings)?, fields: wish.fields()? })
    }

    /// The idempotency key of an image of a folder: the same for the same file, name and settings.
    fn intent(&self, file: &Path, name: &str) -> anyhow::Result<Option<String>> {
        let Self::Server { settings, .. } = self else { return Ok(None) };
        let (call::Settings::Query(asked) | call::Settings::Document(asked)) = settings;
        let digest = hex::encode(batch::digest_of(file)?);
        let whole = digest::digest(&digest::SHA256, format!("{asked}\n{name}\n{digest}").as_bytes());
        Ok(Some(format!("cli-{}", hex::encode(whole))))
    }

    async fn ask(
        &self,
        file: &Path,
        (bytes, intent): (Bytes, Option<String>),
    ) -> anyhow::Result<Result<Job, Problem>> {
        match self {
            Self::Here { runner, fields } => {
                let request = match ingest::request_of(fields.clone()) {
                    Ok(request) => request,
                    Err(error) => return Ok(Err(error.into())),
                };
                let declared = Declared::of(file.file_name().and_then(|name| name.to_str()), None);
                Ok(runner.run(bytes, &request, &declared).await.map_err(Problem::from))
            }
            Self::Server { url, key, settings } => {
                let mut server = Connection::open(url).await?;
                let reply = server.analyze(&bytes, settings, (key.as_deref(), intent)).await?;
                Ok(if reply.status < 300 {
                    Ok(serde_json::from_slice(&reply.body).context("the server's answer is no job")?)
                } else {
                    Err(serde_json::from_slice(&reply.body).context("the server's answer is no problem")?)
                })
            }
        }
    }
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
