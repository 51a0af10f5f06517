//! `eyebolt batch`: many images through a server.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use eyebolt_types::{Problem, id::BatchId};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    call::{Body, Call, Connection, Pieces},
    output,
    pictures::{self, Picture},
    wish::Wish,
};
use crate::batches::BatchView;

/// Between two looks at a batch.
const LOOK: Duration = Duration::from_millis(500);

/// Bytes of a file that are sent at once.
const PIECE: usize = 64 << 10;

/// Of `eyebolt batch`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Send images: a file with lines of JSON, or a folder. The same command sends the same batch: after Ctrl-C it goes on.
    Create(Create),
    /// Say where a batch stands.
    Status(One),
    /// Print what was found, a line of JSON for each item that succeeded.
    Results(Results),
    /// Stop a batch.
    Cancel(One),
    /// Run failed items again.
    Retry(One),
}

/// Of `eyebolt batch create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Lines of JSON (`{"custom_id": …, "image_base64": …}`), or a folder of images, named by their paths in it.
    #[arg(value_name = "FILE.ndjson|DIR")]
    source: PathBuf,
    #[command(flatten)]
    wish: Wish,
    /// Do not wait for the end.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    server: Server,
}

/// A batch of a server.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The batch.
    #[arg(value_parser = id)]
    id: BatchId,
    #[command(flatten)]
    server: Server,
}

/// Of `eyebolt batch results`.
#[derive(Debug, clap::Args)]
pub(super) struct Results {
    /// The batch.
    #[arg(value_parser = id)]
    id: BatchId,
    /// Print what ended without an answer instead, with its error.
    #[arg(long)]
    errors: bool,
    /// Only behind this `position`: that of the last line that was printed before.
    #[arg(long, value_name = "POSITION")]
    cursor: Option<u32>,
    #[command(flatten)]
    server: Server,
}

/// Which server is asked.
#[derive(Debug, clap::Args)]
struct Server {
    /// The server.
    #[arg(long = "server", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// An API key of the server; default: the variable `EYEBOLT_KEY`, which other users of this machine can't see.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(create) => create.run().await,
        Command::Status(one) => print(&one.ask("GET", "").await?),
        Command::Cancel(one) => print(&one.ask("POST", ":cancel").await?),
        Command::Retry(one) => print(&one.ask("POST", ":retry").await?),
        Command::Results(results) => results.run().await,
    }
}

fn id(text: &str) -> Result<BatchId, String> {
    text.parse().map_err(|_| "a batch is named batch_…".to_owned())
}

fn print(batch: &BatchView) -> anyhow::Result<ExitCode> {
    output::line(serde_json::to_string(batch)?)?;
    Ok(ExitCode::SUCCESS)
}

impl Server {
    async fn batch(&self, (method, path): (&'static str, String)) -> anyhow::Result<BatchView> {
        self.send(Call { method, path, ..Call::default() }).await
    }

    async fn send(&self, mut call: Call) -> anyhow::Result<BatchView> {
        self.authorize(&mut call);
        let reply = Connection::open(&self.url).await?.call(call).await?;
        if reply.status < 300 {
            return serde_json::from_slice(&reply.body).context("the server's answer is no batch");
        }
        let problem: Problem =
            serde_json::from_slice(&reply.body).context("the server's answer is no problem")?;
        anyhow::bail!("{}: {}", problem.code, problem.detail)
    }

    fn authorize(&self, call: &mut Call) {
        call.key = self.key.clone().or_else(|| std::env::var("EYEBOLT_KEY").ok());
    }
}

impl One {
    async fn ask(&self, method: &'static str, action: &str) -> anyhow::Result<BatchView> {
        self.server.batch((method, format!("/v1/batches/{}{action}", self.id))).await
    }
}

impl Results {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let what = if self.errors { "errors" } else { "results" };
        let cursor = self.cursor.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
        let path = format!("/v1/batches/{}/{what}{cursor}", self.id);
        let mut call = Call { path, ..Call::default() };
        self.server.authorize(&mut call);
        let status = Connection::open(&self.server.url).await?.stream(call, output::bytes).await?;
        output::finish()?;
        Ok(if status < 300 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Create {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let (source, query) = (Source::of(&self.source, self.wish.inline())?, self.wish.query()?);
        let bar = bar(source.length()?, "sending");
        let intent = source.intent(&query)?;
        let call = Call {
            method: "POST",
            path: format!("/v1/batches?{query}"),
            intent: Some(intent),
            content_type: "application/x-ndjson",
            body: Body::Pieces(source.pieces(bar.clone())),
            ..Call::default()
        };
        let sent = self.server.send(call).await;
        bar.finish_and_clear();
        let mut batch = sent?;
        eprintln!("{}", batch.id);
        if !self.detach {
            batch = self.wait(batch).await?;
        }
        let all_well = batch.counts.failed + batch.counts.canceled + batch.counts.expired == 0;
        print(&batch)?;
        Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn wait(&self, mut batch: BatchView) -> anyhow::Result<BatchView> {
        let bar = bar(u64::from(batch.counts.total), "done");
        while !batch.status.is_terminal() {
            sleep(LOOK).await;
            batch = self.server.batch(("GET", batch.links.batch.clone())).await?;
            let counts = batch.counts;
            bar.set_position(u64::from(counts.total - counts.pending - counts.processing));
            bar.set_message(format!("{} failed", counts.failed));
        }
        bar.finish_and_clear();
        Ok(batch)
    }
}

/// Where the items come from.
enum Source {
    Lines(PathBuf),
    /// Pictures; each with this pipeline, where it comes from a file: a query has no place for it.
    Folder(Vec<Picture>, Option<Value>),
}

impl Source {
    fn of(path: &Path, pipeline: Option<&Value>) -> anyhow::Result<Self> {
        if !path.is_dir() {
            let inline = pipeline.is_some();
            anyhow::ensure!(
                !inline,
                "--pipeline FILE.json is for folders: lines carry pipelines of their own"
            );
            return Ok(Self::Lines(path.to_owned()));
        }
        let pictures = pictures::all(&[path.to_owned()], true)?;
        anyhow::ensure!(!pictures.is_empty(), "{} holds no image", path.display());
        Ok(Self::Folder(pictures, pipeline.cloned()))
    }

    /// Bytes to be read.
    fn length(&self) -> anyhow::Result<u64> {
        let of = |path: &Path| {
            let length = std::fs::metadata(path).map(|file| file.len());
            length.with_context(|| format!("{} can't be read", path.display()))
        };
        match self {
            Self::Lines(path) => of(path),
            Self::Folder(pictures, _) => pictures.iter().map(|picture| of(&picture.path)).sum(),
        }
    }

    /// The idempotency key: the same for the same images, names and settings.
    fn intent(&self, query: &str) -> anyhow::Result<String> {
        let mut digest = Digest::new(&SHA256);
        digest.update(query.as_bytes());
        let files: Vec<(&Path, &str)> = match self {
            Self::Lines(path) => vec![(path, "")],
            Self::Folder(pictures, pipeline) => {
                digest.update(pipeline.as_ref().map(Value::to_string).unwrap_or_default().as_bytes());
                pictures.iter().map(|picture| (picture.path.as_path(), picture.name.as_str())).collect()
            }
        };
        for (path, name) in files {
            digest.update(&(name.len() as u64).to_be_bytes());
            digest.update(name.as_bytes());
            digest.update(hex::encode(digest_of(path)?).as_bytes());
        }
        Ok(format!("cli-{}", hex::encode(digest.finish())))
    }

    fn pieces(self, bar: ProgressBar) -> Pieces {
        match self {
            Self::Lines(path) => {
                let mut file = None;
                Box::new(
                    std::iter::from_fn(move || piece_of(&path, &mut file).transpose())
                        .inspect(move |piece| bar.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64))),
                )
            }
            Self::Folder(pictures, pipeline) => Box::new(pictures.into_iter().map(move |picture| {
                let bytes = std::fs::read(&picture.path)?;
                bar.inc(bytes.len() as u64);
                let mut line = json!({"custom_id": picture.name, "image_base64": STANDARD.encode(bytes)});
                if let Some(pipeline) = &pipeline {
                    line["pipeline"] = pipeline.clone();
                }
                Ok(Bytes::from(line.to_string() + "\n"))
            })),
        }
    }
}

fn piece_of(path: &Path, file: &mut Option<BufReader<File>>) -> io::Result<Option<Bytes>> {
    let reader = match file {
        Some(reader) => reader,
        None => file.insert(BufReader::with_capacity(PIECE, File::open(path)?)),
    };
    let piece = Bytes::copy_from_slice(reader.fill_buf()?);
    reader.consume(piece.len());
    Ok((!piece.is_empty()).then_some(piece))
}

/// SHA-256 of a file.
pub(super) fn digest_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} can't be read", path.display());
    let mut file = File::open(path).with_context(unreadable)?;
    let (mut digest, mut piece) = (Digest::new(&SHA256), vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece).with_context(unreadable)?;
        if read == 0 {
            return Ok(digest.finish().as_ref().to_vec());
        }
        digest.update(&piece[..read]);
    }
}

/// A bar on standard error, where that is a terminal.
pub(super) fn bar(length: u64, what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_prefix(what);
    let style = ProgressStyle::with_template("{prefix} {bar:40} {percent}% {eta} {msg}");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_folder_and_settings_are_the_same_intent() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), b"a").unwrap();
        let of = |pipeline: Option<&Value>, query: &str| {
            Source::of(folder.path(), pipeline).unwrap().intent(query).unwrap()
        };
        let intent = |query: &str| of(None, query);
        let first = intent("features=text");
        assert_eq!(intent("features=text"), first);
        assert_ne!(intent("features=faces"), first);
        let [one, other] = [json!({"steps": []}), json!({"steps": [1]})];
        assert_ne!(of(Some(&one), ""), of(Some(&other), ""));
        std::fs::rename(folder.path().join("a.png"), folder.path().join("b.png")).unwrap();
        assert_ne!(intent("features=text"), first, "another name is another item");
    }

    #[test]
    fn a_folder_is_sent_as_lines_and_a_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), b"image").unwrap();
        let whole = |source: Source| {
            let pieces = source.pieces(ProgressBar::hidden());
            pieces.map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()).collect::<String>()
        };
        let pipeline = json!({"steps": []});
        let lines = whole(Source::of(folder.path(), Some(&pipeline)).unwrap());
        assert!(lines.contains("\"pipeline\":{\"steps\":[]}"), "{lines}");
        let lines = whole(Source::of(folder.path(), None).unwrap());
        assert_eq!(lines, "{\"custom_id\":\"a.png\",\"image_base64\":\"aW1hZ2U=\"}\n");
        let file = folder.path().join("batch.ndjson");
        std::fs::write(&file, lines.repeat(5000)).unwrap();
        assert_eq!(whole(Source::of(&file, None).unwrap()), lines.repeat(5000));
        assert!(Source::of(&file, Some(&pipeline)).is_err());
    }
}
