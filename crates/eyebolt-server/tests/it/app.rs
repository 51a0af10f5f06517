//! A running server whose engine does what the test says.

use std::{net::SocketAddr, sync::Arc};

use eyebolt_engine::{EngineError, ImageError};
use eyebolt_server::{
    Analyzer, ApiError, App, HttpSettings, Server,
    analysis::{Capabilities, ConfidenceGuide, ModelInfo, Submission},
    http::Stopped,
};
use eyebolt_types::{
    BoundingBox, Clock, Dedup, ErrorCode, Feature, ImageFormat, ImageLimits, Input, Job, JobStatus, Links,
    Mode, Results, Step, StepStatus, Usage,
    id::{ImageId, JobId, StepId},
    result::{ConfidenceBand, Object, Objects},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use crate::wire::{Answer, Wire, request};

/// Small, so that tests can cross it.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 10;

/// What the engine does with an image, by its first bytes.
///
/// `wait` waits for [`TestApp::release`], `panic` panics, `empty` and `dark` are refused, anything else shows a cat.
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    /// One item when an analysis begins (true), and one when it ends or is dropped (false).
    pub(crate) running: mpsc::UnboundedReceiver<bool>,
    pub(crate) seen: mpsc::UnboundedReceiver<Submission>,
    release: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Stopped>,
}

struct Running(mpsc::UnboundedSender<bool>);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.send(false);
    }
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::with(HttpSettings::default()).await
    }

    pub(crate) async fn with(settings: HttpSettings) -> Self {
        let (began, running) = mpsc::unbounded_channel();
        let (submitted, seen) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let clock = Clock::fixed("2026-01-02T03:04:05Z".parse().expect("a time"));
        let gate = release.clone();
        let analyze = move |submission: Submission| {
            let (began, gate, submitted, clock) =
                (began.clone(), gate.clone(), submitted.clone(), clock.clone());
            async move {
                _ = began.send(true);
                let _running = Running(began);
                let job = match submission.bytes.get(..4) {
                    Some(b"wait") => {
                        gate.notified().await;
                        Ok(job(&submission, &clock))
                    }
                    Some(b"pani") => panic!("as the test wants it"),
                    Some(b"empt") => Err(EngineError::Image(ImageError::Empty).into()),
                    Some(b"dark") => {
                        Err(ApiError::new(ErrorCode::TooDark, "The mean brightness is 3 of 255."))
                    }
                    _ => Ok(job(&submission, &clock)),
                };
                _ = submitted.send(submission);
                job
            }
        };
        let analyzer = Analyzer::new(analyze, capabilities, || async { Ok(()) });
        let settings = HttpSettings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..settings };
        let server = Server::bind(App::new(analyzer, settings)).await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.run(async { _ = stopped.await }));
        Self { address, running, seen, release, stop: Some(stop), server }
    }

    pub(crate) async fn open(&self) -> Wire {
        Wire::open(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut wire = self.open().await;
        wire.send(&request(line, headers, body)).await;
        wire.answer_to(line.starts_with("HEAD")).await
    }

    /// Lets every waiting analysis finish.
    pub(crate) fn release(&self) {
        self.release.notify_waiters();
    }

    /// Asks the server to stop.
    pub(crate) fn stop(&mut self) {
        _ = self.stop.take().map(|stop| stop.send(()));
    }

    pub(crate) async fn stopped(self) -> Stopped {
        self.server.await.expect("the server does not panic")
    }
}

pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        object: "list".to_owned(),
        data: vec![ModelInfo {
            id: "cats@1".to_owned(),
            object: "model".to_owned(),
            name: "cats".to_owned(),
            version: "1".to_owned(),
            task: Feature::Objects,
            aliases: vec!["objects/default".to_owned()],
            description: "Finds cats.".to_owned(),
            licence: "Apache-2.0".to_owned(),
            sha256: "00".repeat(32),
            backend: "script".to_owned(),
            confidence: ConfidenceGuide { min: 0.4, medium: 0.5, high: 0.75 },
            labels: vec!["cat".to_owned()],
            languages: Vec::new(),
            unsupported_languages: Vec::new(),
        }],
        features: vec![Feature::Objects],
        formats: vec![ImageFormat::Jpeg, ImageFormat::Png],
        limits: ImageLimits { max_file_bytes: MAX_FILE_BYTES, ..ImageLimits::default() },
    }
}

fn job(submission: &Submission, clock: &Clock) -> Job {
    let now = clock.now();
    let cat = Object {
        label: "cat".to_owned(),
        confidence: 0.75,
        confidence_band: ConfidenceBand::High,
        bounds: BoundingBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 },
    };
    let step = |feature| Step {
        id: StepId::new(),
        feature,
        status: StepStatus::Succeeded,
        attempt: 1,
        model: Some("cats@1".to_owned()),
        started_at: Some(now),
        finished_at: Some(now),
        error: None,
    };
    Job {
        id: JobId::new(),
        object: "job".to_owned(),
        status: JobStatus::Succeeded,
        created_at: now,
        started_at: Some(now),
        finished_at: Some(now),
        mode: Mode::Test,
        api_version: "v1".to_owned(),
        input: Input {
            image_id: ImageId::new(),
            sha256: "00".repeat(32),
            bytes: submission.bytes.len() as u64,
            format: ImageFormat::Jpeg,
            width: 640,
            height: 480,
            megapixels: 0.3072,
            frames: 1,
        },
        steps: submission.request.features.iter().copied().map(step).collect(),
        results: Results {
            objects: Some(Objects {
                model: "cats@1".to_owned(),
                confidence_guide: "/v1/models/cats@1#confidence".to_owned(),
                items: vec![cat],
            }),
            ..Results::default()
        },
        warnings: Vec::new(),
        dedup: Dedup::none(),
        degraded: false,
        usage: Usage { units: 1 },
        error: None,
        retryable_until: None,
        links: Links { models: "/v1/models".to_owned(), errors: "/v1/errors".to_owned() },
    }
}
