//! The tables of docs/performance.md. Ratios of one run: times of two machines, or of two days, say little.

mod processor;

use std::{
    future::ready,
    ops::AddAssign,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use eyebolt_engine::{Findings, bench};
use eyebolt_store::ApiSecret;
use eyebolt_types::{AnalyzeRequest, Detail, Feature, Mode, id::RequestId, request::QualityGate};

use super::{
    call::{self, Connection},
    output,
    quickstart::SAMPLE,
    serve,
};
use crate::{
    Declared, Place, Runner, Server, Settings,
    access::{AccessSettings, Keys},
    place::StorageSettings,
    settings::{DecoderPlace, LogSettings},
};

/// Of `eyebolt bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds for each figure of throughput.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Clients at once.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Rounds for each time.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// What is asked again and again.
#[derive(Debug, Clone)]
struct Question {
    name: &'static str,
    /// By HTTP.
    query: &'static str,
    /// The same of the engine.
    request: AnalyzeRequest,
}

impl Question {
    /// The model that takes least: whatever else a call costs shows most.
    fn least() -> Self {
        let mut request = AnalyzeRequest::of([Feature::Faces]);
        request.quality_gate = QualityGate::Off;
        request.parameters.faces.input_size = Some(320);
        let query = "features=faces&faces.input_size=320&quality_gate=off";
        Self { name: "faces at 320 px", query, request }
    }

    /// What is asked without a word on how.
    fn ordinary() -> Self {
        let request = AnalyzeRequest::of([Feature::Objects]);
        Self { name: "objects as it comes", query: "features=objects", request }
    }
}

pub(super) async fn run(arguments: Arguments, mut settings: Settings) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(&LogSettings { filter: "error".to_owned(), ..settings.log.clone() })?;
    settings.http.listen.set_port(0);
    let runner = super::start(&settings)?;
    for question in [Question::least(), Question::ordinary()] {
        throughput((&arguments, &question), &settings, &runner).await?;
    }
    decoding(&arguments)?;
    phases(&arguments, &runner).await?;
    Ok(ExitCode::SUCCESS)
}

/// HTTP against the engine called directly, in turns, so that a busy neighbour slows both.
async fn throughput(
    (arguments, question): (&Arguments, &Question),
    settings: &Settings,
    runner: &Runner,
) -> anyhow::Result<()> {
    // A place of its own, gone afterwards: the operator's data are not touched.
    let folder = std::env::temp_dir().join(format!("eyebolt-bench-{}", std::process::id()));
    let storage = StorageSettings { data_dir: folder.clone(), ..StorageSettings::default() };
    let access = AccessSettings::default();
    let (place, _lock) = Place::open(&storage, &access, &runner.clock).await?;
    let keys = Keys::new(&place, runner.clock.clone());
    let (_, issued) = keys.create_project("bench", Mode::Test).await?;
    let server = Server::bind(serve::app(settings, &place, runner.clone()).await?).await?;
    let url = format!("http://{}", server.local_addr()?);
    let serving = tokio::spawn(server.run(std::future::pending()));
    let (turns, mut direct, mut by_http) = (4, Counted::default(), Counted::default());
    let turn = Duration::from_secs(arguments.seconds) / turns;
    for _ in 0..turns {
        let engine = || ready(Ok(Direct(runner.clone(), question.request.clone())));
        direct += count(arguments.clients, turn, engine)?;
        let client = || call_server(url.clone(), (issued.secret.clone(), question.query));
        by_http += count(arguments.clients, turn, client)?;
    }
    serving.abort();
    let _ = std::fs::remove_dir_all(&folder);
    let place = match settings.engine.decoder {
        DecoderPlace::Process => "processes",
        DecoderPlace::InServer => "the server",
    };
    output::line(format_args!(
        "## Throughput, {} clients, {}, decoding in {place}\n",
        arguments.clients, question.name
    ))?;
    output::line("| | answers/s | of the engine | processor, ms an answer | of it the clients |")?;
    output::line("| --- | ---: | ---: | ---: | ---: |")?;
    let row = |name: &str, counted: &Counted, clients: String| {
        let rate = counted.answers as f64 / arguments.seconds as f64;
        let of_engine = counted.answers as f64 / direct.answers as f64;
        output::line(format_args!(
            "| {name} | {rate:.1} | {of_engine:.2} | {} | {clients} |",
            counted.each(counted.spent)
        ))
    };
    // Called directly, the caller's thread is where the engine's own futures run.
    row("engine called directly", &direct, String::new())?;
    row("HTTP, durable", &by_http, by_http.each(by_http.by_callers))?;
    output::line("")
}

/// Answers, and what they cost: in all, and of that on the thread of the callers.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    answers: usize,
    spent: Duration,
    by_callers: Duration,
}

impl Counted {
    /// Milliseconds an answer.
    fn each(&self, time: Duration) -> String {
        format!("{:.2}", time.as_secs_f64() * 1000.0 / self.answers as f64)
    }
}

impl AddAssign for Counted {
    fn add_assign(&mut self, more: Self) {
        self.answers += more.answers;
        self.spent += more.spent;
        self.by_callers += more.by_callers;
    }
}

/// Answers to `clients` callers, each of which asks again and again for `time`. The callers have a thread of their own, so
/// that their part can be told from the server's.
fn count<C, F>(clients: usize, time: Duration, caller: impl Fn() -> C + Send) -> anyhow::Result<Counted>
where
    C: Future<Output = anyhow::Result<F>>,
    F: Caller,
{
    let called = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (before, own) = (processor::of_all(), processor::of_thread());
        let answers = runtime.block_on(call_again_and_again(clients, time, caller))?;
        let spent = |from: Option<Duration>, to: Option<Duration>| {
            to.zip(from).map_or(Duration::ZERO, |(to, from)| to.saturating_sub(from))
        };
        let by_callers = spent(own, processor::of_thread());
        anyhow::Ok(Counted { answers, spent: spent(before, processor::of_all()), by_callers })
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| scope.spawn(called).join())
            .map_err(|_| anyhow::anyhow!("a caller panicked"))?
    })
}

async fn call_again_and_again<C, F>(
    clients: usize,
    time: Duration,
    caller: impl Fn() -> C,
) -> anyhow::Result<usize>
where
    C: Future<Output = anyhow::Result<F>>,
    F: Caller,
{
    let end = Instant::now() + time;
    let mut callers = Vec::new();
    for _ in 0..clients {
        let mut caller = caller().await?;
        callers.push(tokio::spawn(async move {
            let mut answers = 0;
            while Instant::now() < end {
                caller.call().await?;
                answers += 1;
            }
            anyhow::Ok(answers)
        }));
    }
    let mut answers = 0;
    for caller in callers {
        answers += caller.await??;
    }
    Ok(answers)
}

trait Caller: Send + 'static {
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

struct Direct(Runner, AnalyzeRequest);

impl Caller for Direct {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.0.run(Bytes::from_static(SAMPLE), &self.1, &Declared::default()).await?;
        Ok(())
    }
}

/// What is asked, too.
struct ByHttp(Connection, ApiSecret, &'static str);

impl Caller for ByHttp {
    async fn call(&mut self) -> anyhow::Result<()> {
        let image = with_comment(RequestId::new().to_string().as_bytes());
        let asked = call::Settings::Query(self.2.into());
        let reply = self.0.analyze(&image, &asked, (Some(self.1.reveal()), None)).await?;
        anyhow::ensure!(reply.status == 200, "the server answered {}", reply.status);
        Ok(())
    }
}

/// The sample as a file that nobody has sent before: a JPEG may hold a comment behind its first two bytes.
fn with_comment(text: &[u8]) -> Vec<u8> {
    let (start, rest) = SAMPLE.split_at(2);
    let length = u16::try_from(text.len() + 2).expect("comments of the bench are short");
    [start, &[0xFF, 0xFE], &length.to_be_bytes(), text, rest].concat()
}

async fn call_server(url: String, (key, query): (ApiSecret, &'static str)) -> anyhow::Result<ByHttp> {
    Ok(ByHttp(Connection::open(&url).await?, key, query))
}

fn decoding(arguments: &Arguments) -> anyhow::Result<()> {
    let photo = bench::twelve_megapixels(SAMPLE)?;
    output::line(format_args!(
        "## A JPEG of 12 megapixels ({:.1} MB) to a model's input\n",
        photo.len() as f64 / 1e6
    ))?;
    output::line("| longer side | full decode + resize, ms | scaled decode + resize, ms | ratio |")?;
    output::line("| ---: | ---: | ---: | ---: |")?;
    for side in [320, 640, 1280] {
        let times = bench::decode_times(&photo, side, arguments.rounds)?;
        let ratio = times.full.as_secs_f64() / times.scaled.as_secs_f64();
        output::line(format_args!("| {side} | {} | {} | {ratio:.2} |", ms(times.full), ms(times.scaled)))?;
    }
    output::line("")
}

async fn phases(arguments: &Arguments, runner: &Runner) -> anyhow::Result<()> {
    output::line(format_args!(
        "## Where the time goes (sample picture, 1000 × 640; median of {} rounds, ms)\n",
        arguments.rounds
    ))?;
    output::line(
        "| feature | detail | decode | quality gate | preprocess | inference | postprocess | all |",
    )?;
    output::line("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for feature in Feature::ALL {
        let details: &[Detail] = match feature {
            Feature::Objects | Feature::Faces | Feature::Text => {
                &[Detail::Low, Detail::Standard, Detail::High]
            }
            _ => &[Detail::Standard],
        };
        for &detail in details {
            let mut found = Vec::new();
            for _ in 0..arguments.rounds {
                found.push(analyze(runner, feature, detail).await?);
            }
            let of = |part: fn(&Findings) -> Duration| median(found.iter().map(part).collect());
            output::line(format_args!(
                "| {feature} | {} | {} | {} | {} | {} | {} | {} |",
                format!("{detail:?}").to_lowercase(),
                of(|found| found.decode),
                of(|found| found.gate),
                of(|found| found.steps[0].phases.preprocess),
                of(|found| found.steps[0].phases.inference),
                of(|found| found.steps[0].phases.postprocess),
                of(|found| found.elapsed),
            ))?;
        }
    }
    Ok(())
}

async fn analyze(runner: &Runner, feature: Feature, detail: Detail) -> anyhow::Result<Findings> {
    let request = AnalyzeRequest { detail, ..AnalyzeRequest::of([feature]) };
    let header = runner.engine.probe(SAMPLE)?;
    let plan = runner.engine.plan(&request)?;
    runner.engine.analyze(SAMPLE, (header, plan)).await.context("the sample picture is refused")
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    ms(times[times.len() / 2])
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
