//! A running server whose engine does what the test says.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
};

use eyebolt_engine::{EngineError, ImageError};
use eyebolt_server::{
    Access, Analyzer, ApiError, App, HttpSettings, Place, Server,
    access::{AccessSettings, Keys},
    analysis::{Capabilities, ConfidenceGuide, ModelInfo, Submission},
    http::Stopped,
    place::StorageSettings,
};
use eyebolt_store::{ApiSecret, DataLock, NewKey, Store};
use eyebolt_types::{
    BoundingBox, Clock, Dedup, ErrorCode, Feature, ImageFormat, ImageLimits, Input, Job, JobStatus, Links,
    Mode, Results, Scope, Step, StepStatus, Usage,
    id::{ImageId, JobId, KeyId, ProjectId, StepId},
    result::{ConfidenceBand, Object, Objects},
};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
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
    pub(crate) store: Store,
    /// Makes and ends keys, in the time of `clock`.
    pub(crate) keys: Keys,
    /// The project of [`KEY`].
    pub(crate) project: ProjectId,
    /// The id of [`KEY`].
    pub(crate) key: KeyId,
    pub(crate) clock: TestClock,
    /// The data folder; the server holds its lock.
    pub(crate) folder: TempDir,
    _lock: DataLock,
    /// One item when an analysis begins (true), and one when it ends or is dropped (false).
    pub(crate) running: mpsc::UnboundedReceiver<bool>,
    pub(crate) seen: mpsc::UnboundedReceiver<Submission>,
    release: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Stopped>,
}

/// A live key with all scopes that every app knows: what requests show unless they say otherwise.
pub(crate) static KEY: LazyLock<ApiSecret> = LazyLock::new(|| ApiSecret::generate(Mode::Live));

/// The time of an app. It stands still until a test moves it on.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<Mutex<Timestamp>>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new("2026-01-02T03:04:05Z".parse().expect("a time"))))
    }

    pub(crate) fn now(&self) -> Timestamp {
        *self.0.lock().expect("no test panics here")
    }

    pub(crate) fn advance(&self, time: SignedDuration) {
        *self.0.lock().expect("no test panics here") += time;
    }

    /// The same time as the server asks for it.
    pub(crate) fn clock(&self) -> Clock {
        let told = self.clone();
        Clock::told_by(move || told.now())
    }
}

/// The store of an app in its data folder, with a project and [`KEY`].
async fn place(folder: &TempDir, clock: &TestClock) -> (Place, DataLock, ProjectId, KeyId) {
    let storage = StorageSettings { data_dir: folder.path().to_owned(), ..StorageSettings::default() };
    let opened = Place::open(&storage, &AccessSettings::default(), &clock.clock()).await;
    let (place, lock) = opened.expect("a new place");
    let project =
        place.store.create_project("acme", clock.now()).await.expect("a store").expect("a new name").id;
    let key = NewKey {
        project,
        mode: KEY.mode(),
        name: "test".to_owned(),
        scopes: Scope::ALL.to_vec(),
        hash: place.hasher.hash(&KEY),
        hint: KEY.hint().to_owned(),
        expires_at: None,
    };
    let key = place.store.create_key(key, clock.now()).await.expect("a store");
    (place, lock, project, key)
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
        Self::under(settings, AccessSettings::default()).await
    }

    pub(crate) async fn under(settings: HttpSettings, access: AccessSettings) -> Self {
        let (began, running) = mpsc::unbounded_channel();
        let (submitted, seen) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let clock = TestClock::new();
        let folder = tempfile::tempdir().expect("a folder");
        let (place, lock, project, key) = place(&folder, &clock).await;
        let time = clock.clock();
        let gate = release.clone();
        let analyze = move |submission: Submission| {
            let (began, gate, submitted, clock) =
                (began.clone(), gate.clone(), submitted.clone(), time.clone());
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
        let access = Access::new(&place, clock.clock(), &access);
        let server = Server::bind(App::new(analyzer, access, settings)).await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.run(async { _ = stopped.await }));
        Self {
            address,
            keys: Keys::new(&place, clock.clock()),
            store: place.store,
            project,
            key,
            clock,
            folder,
            _lock: lock,
            running,
            seen,
            release,
            stop: Some(stop),
            server,
        }
    }

    pub(crate) async fn open(&self) -> Wire {
        Wire::open(self.address).await
    }

    /// One request on a connection of its own. It shows [`KEY`] unless `headers` has an `Authorization`.
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
