//! `eyebolt batch`: many images through a server.

use std::{
    cell::Cell,
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
use eyebolt_types::id::BatchId;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    call::{Body, Call, Pieces},
    output,
    pictures::{self, Picture},
    server::{self, Address, Server},
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
    address: Address,
}

/// A batch of a server.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The batch.
    #[arg(value_parser = id)]
    id: BatchId,
    #[command(flatten)]
    address: Address,
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
    address: Address,
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

/// What the server says of the batch.
async fn said(server: &Server, call: impl Fn() -> Call) -> anyhow::Result<BatchView> {
    let reply = server.ask(call).await?;
    if reply.status >= 300 {
        return Err(server::refusal(&reply));
    }
    serde_json::from_slice(&reply.body).context("the server's answer is no batch")
}

impl One {
    async fn ask(&self, method: &'static str, action: &str) -> anyhow::Result<BatchView> {
        let path = || format!("/v1/batches/{}{action}", self.id);
        said(&self.address.server(), || Call { method, path: path(), ..Call::default() }).await
    }
}

impl Results {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        // Where the connection breaks, it goes on behind the last line.
        let cursor = Cell::new(self.cursor);
        let call = || Call { path: self.path(cursor.get()), ..Call::default() };
        let take = |lines: &[u8]| {
            output::bytes(lines)?;
            cursor.set(last_position(lines).or(cursor.get()));
            Ok(())
        };
        let reply = self.address.server().read(call, take).await?;
        if reply.status >= 300 {
            return Err(server::refusal(&reply));
        }
        output::bytes(&reply.body)?;
        Ok(ExitCode::SUCCESS)
    }

    fn path(&self, cursor: Option<u32>) -> String {
        let what = if self.errors { "errors" } else { "results" };
        let cursor = cursor.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
        format!("/v1/batches/{}/{what}{cursor}", self.id)
    }
}

/// The `position` of the last of some lines.
fn last_position(lines: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Item {
        position: u32,
    }
    let last = lines.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(last).ok().map(|item: Item| item.position)
}

impl Create {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let (source, query) = (Source::of(&self.source, self.wish.inline())?, self.wish.query()?);
        let (server, bar) = (self.address.server(), bar(source.length()?, "sending"));
        let intent = source.intent(&query)?;
        let sent = said(&server, || {
            bar.set_position(0);
            Call {
                method: "POST",
                path: format!("/v1/batches?{query}"),
                intent: Some(intent.clone()),
                content_type: "application/x-ndjson",
                body: Body::Pieces(source.clone().pieces(bar.clone())),
                ..Call::default()
            }
        });
        let sent = sent.await;
        bar.finish_and_clear();
        let batch = sent?;
        eprintln!("{}", batch.id);
        if self.detach {
            return print(&batch);
        }
        let ended = wait(&server, batch).await?;
        print(&ended)?;
        let all_well = ended.counts.failed + ended.counts.canceled + ended.counts.expired == 0;
        Ok(if all_well { ExitCode::SUCCESS } else { super::SOME_FAILED.into() })
    }
}

async fn wait(server: &Server, mut batch: BatchView) -> anyhow::Result<BatchView> {
    let bar = bar(u64::from(batch.counts.total), "done");
    while !batch.status.is_terminal() {
        sleep(LOOK).await;
        batch = said(server, || Call { path: batch.links.batch.clone(), ..Call::default() }).await?;
        let counts = batch.counts;
        bar.set_position(u64::from(counts.total - counts.pending - counts.processing));
        bar.set_message(format!("{} failed", counts.failed));
    }
    bar.finish_and_clear();
    Ok(batch)
}

/// Where the items come from.
#[derive(Clone)]
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
fn digest_of(path: &Path) -> anyhow::Result<Vec<u8>> {
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
    fn reading_goes_on_behind_the_last_line() {
        assert_eq!(last_position(b"{\"position\":6}\n{\"position\":7,\"job\":{\"position\":1}}\n"), Some(7));
        assert_eq!(last_position(b"{}\n"), None);
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
