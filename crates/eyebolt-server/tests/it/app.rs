//! A running server whose engine does what the test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use eyebolt_engine::{EngineError, ImageError};
use eyebolt_server::{
    Access, Analyzer, ApiError, App, Batches, Clients, Declared, Events, HttpSettings, Outbound, Place,
    Quotas, Server, Webhooks,
    access::{AccessSettings, Keys},
    analysis::{Attempt, Capabilities, Checked, ConfidenceGuide, ModelInfo, Remarks, StepEnd},
    batches::{self, BatchSettings},
    clients::RunawaySettings,
    events::EventSettings,
    http::{Rooms, Stopped},
    jobs::{IdempotencySettings, JobSettings, Jobs, Rules, Tools},
    outbound::{OutboundSettings, Resolver},
    place::StorageSettings,
    quotas::QuotaSettings,
    webhooks::WebhookSettings,
};
use eyebolt_store::{ApiSecret, Audit, Balance, DataLock, NewKey, Store};
use eyebolt_types::{
    AnalyzeRequest, BoundingBox, Clock, ErrorCode, Feature, ImageFormat, ImageLimits, Input, Limits, Mode,
    Problem, Results, Scope,
    id::{ImageId, KeyId, ProjectId},
    result::{ConfidenceBand, Object, Objects},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    database::Schema,
    sitter::Sitter,
    wire::{Answer, FORM, Wire, image, request},
};

/// Small, so that tests can cross it.
pub(crate) const MAX_FILE_BYTES: u64 = 160 << 10;

/// What an app looked at before it promised anything.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) bytes: Bytes,
    pub(crate) request: AnalyzeRequest,
    pub(crate) declared: Declared,
}

/// How an app is set up.
pub(crate) struct Setup {
    pub(crate) http: HttpSettings,
    pub(crate) access: AccessSettings,
    pub(crate) rules: Rules,
    pub(crate) batches: BatchSettings,
    pub(crate) quotas: QuotaSettings,
    pub(crate) runaway: RunawaySettings,
    pub(crate) events: EventSettings,
    pub(crate) webhooks: WebhookSettings,
    /// What turns the names of receivers into addresses.
    pub(crate) resolver: Resolver,
    /// The data folder of an app that was stopped.
    pub(crate) folder: Option<TempDir>,
    /// Where the rows are; none: in the data folder.
    pub(crate) schema: Option<Arc<Schema>>,
    /// Its time; none: one of its own.
    pub(crate) clock: Option<TestClock>,
    /// Its time is made steady, as that of a server is: it goes on, and steps do not move it.
    pub(crate) steady: bool,
    /// The snapshot that answers whoever names no model.
    pub(crate) snapshot: &'static str,
    /// What its engine does with pipelines.
    pub(crate) sitter: Sitter,
}

impl Default for Setup {
    /// Keys may be left out, and nothing is tried twice: the time stands still.
    fn default() -> Self {
        let rules = Rules {
            jobs: JobSettings { max_attempts: 1, ..JobSettings::default() },
            idempotency: IdempotencySettings { required: false, ..IdempotencySettings::default() },
            ..Rules::default()
        };
        Self {
            http: HttpSettings::default(),
            access: AccessSettings::default(),
            rules,
            batches: BatchSettings::default(),
            quotas: QuotaSettings::default(),
            runaway: RunawaySettings::default(),
            events: EventSettings::default(),
            webhooks: WebhookSettings::default(),
            resolver: Resolver::system(),
            folder: None,
            schema: None,
            clock: None,
            steady: false,
            snapshot: "cats@1",
            sitter: Sitter::default(),
        }
    }
}

impl Setup {
    /// The same on PostgreSQL. Several servers of one database need one secret.
    pub(crate) fn on(schema: &Arc<Schema>) -> Self {
        let access = AccessSettings { key_secret: "of all servers".into(), ..AccessSettings::default() };
        Self { access, schema: Some(Arc::clone(schema)), ..Self::default() }
    }
}

/// What the engine does with an image, by its first bytes.
///
/// `empty` is refused before it is a job, `dark` after. `wait` waits for [`TestApp::release`], `half` does so after its
/// first feature. `panic` panics and `fail` fails for a passing reason until [`TestApp::mend`]: of several features all
/// but the first. `huge` shows thousands of cats, anything else one.
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
    pub(crate) jobs: Jobs,
    pub(crate) batches: Batches,
    pub(crate) quotas: Quotas,
    pub(crate) events: Events,
    /// What its engine does with pipelines.
    pub(crate) sitter: Sitter,
    webhooks: Webhooks,
    lock: DataLock,
    schema: Option<Arc<Schema>>,
    /// One item when an analysis begins (true), and one when it ends or is dropped (false).
    pub(crate) running: mpsc::UnboundedReceiver<bool>,
    pub(crate) seen: mpsc::UnboundedReceiver<Looked>,
    /// What each analysis was told to do.
    pub(crate) done: mpsc::UnboundedReceiver<AnalyzeRequest>,
    release: Arc<Notify>,
    broken: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Stopped>,
}

/// What [`TestApp::analyze`] asks.
pub(crate) const ANALYZE: &str = "POST /v1/analyze?features=objects";

/// A live key with all scopes that every app knows: what requests show unless they say otherwise.
pub(crate) static KEY: LazyLock<ApiSecret> = LazyLock::new(|| ApiSecret::generate(Mode::Live));

/// The time of an app. It stands still until a test moves it on.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<Mutex<Timestamp>>);

impl TestClock {
    pub(crate) fn new() -> Self {
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
async fn place(
    folder: &TempDir,
    (access, schema): (&AccessSettings, Option<&Schema>),
    clock: &TestClock,
) -> (Place, DataLock, ProjectId, KeyId) {
    let database_url = schema.map(|schema| schema.url().as_str().into()).unwrap_or_default();
    let storage = StorageSettings { data_dir: folder.path().to_owned(), database_url };
    let opened = Place::open(&storage, access, &clock.clock()).await;
    let (place, lock) = opened.expect("a new place");
    if let Some(project) = place.store.project("acme").await.expect("a store") {
        let key = place.store.keys(project.id).await.expect("a store")[0].id;
        return (place, lock, project.id, key);
    }
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
        limits: Limits::default(),
    };
    let key = place.store.create_key(key, clock.now()).await.expect("a store");
    (place, lock, project, key)
}

/// The room of batches of an app.
fn batches_of(
    place: &Place,
    (jobs, analyzer, webhooks, clock): (Jobs, Analyzer, Webhooks, Clock),
    (settings, answers): (BatchSettings, std::time::Duration),
) -> Batches {
    let (store, blobs) = (place.store.clone(), place.blobs().expect("a folder of blobs"));
    let tools = batches::Tools { store, blobs, jobs, analyzer, webhooks, clock };
    Batches::new(tools, settings, (&place.instance().expect("a name"), answers))
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
        Self::set_up(Setup { http: settings, ..Setup::default() }).await
    }

    pub(crate) async fn under(settings: HttpSettings, access: AccessSettings) -> Self {
        Self::set_up(Setup { http: settings, access, ..Setup::default() }).await
    }

    #[allow(clippy::too_many_lines, reason = "one room after the other")]
    pub(crate) async fn set_up(setup: Setup) -> Self {
        let (began, running) = mpsc::unbounded_channel();
        let (looked, seen) = mpsc::unbounded_channel();
        let (does, done) = mpsc::unbounded_channel();
        let (release, broken) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
        let clock = setup.clock.unwrap_or_else(TestClock::new);
        let folder = setup.folder.unwrap_or_else(|| tempfile::tempdir().expect("a folder"));
        let (place, lock, project, key) =
            place(&folder, (&setup.access, setup.schema.as_deref()), &clock).await;
        let (gate, breaks) = (Arc::clone(&release), Arc::clone(&broken));
        let script = Script { began, does, gate, broken: breaks, clock: clock.clock() };
        let (sitter, snapshot) = (setup.sitter.clone(), setup.snapshot);
        let analyzer = script.analyzer(looked, setup.snapshot).with_pipelines(
            move |pipeline, request| Sitter::freeze((pipeline, request), snapshot),
            move |sitting| {
                let sitter = sitter.clone();
                async move { sitter.sit(sitting).await }
            },
        );
        let quotas = Quotas::open(setup.quotas, clock.clock()).await.expect("counters");
        // Receivers under test are on this machine.
        let allowed = OutboundSettings { allow: vec!["127.0.0.0/8".to_owned()] };
        let outbound = Outbound::new(&allowed, setup.resolver);
        let instance = place.instance().expect("a name");
        let webhooks = Webhooks::new((&place, &instance), outbound, setup.webhooks, clock.clock());
        let tools = Tools {
            store: place.store.clone(),
            blobs: place.blobs().expect("a folder of blobs"),
            quotas: quotas.clone(),
            clients: Clients::new(setup.runaway, place.store.clone(), clock.clock()),
            analyzer: analyzer.clone(),
            webhooks: webhooks.clone(),
            clock: if setup.steady { clock.clock().made_steady(None) } else { clock.clock() },
        };
        let answers = setup.rules.idempotency.retention;
        let jobs = Jobs::new(tools, setup.rules, (&instance, 2));
        jobs.start().await.expect("a store");
        let tools = (jobs.clone(), analyzer.clone(), webhooks.clone(), clock.clock());
        let batches = batches_of(&place, tools, (setup.batches, answers));
        batches.start().await.expect("a store");
        webhooks.start().await.expect("a store");
        let events = Events::new(place.store.clone(), setup.events, clock.clock());
        let settings = HttpSettings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..setup.http };
        let access = Access::new(&place, clock.clock(), &setup.access);
        let rooms = Rooms {
            access,
            jobs: jobs.clone(),
            batches: batches.clone(),
            events: events.clone(),
            webhooks: webhooks.clone(),
        };
        let app = App::new(analyzer, rooms, settings);
        let server = Server::bind(app).await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        Self {
            address,
            keys: Keys::new(&place, clock.clock()),
            store: place.store,
            project,
            key,
            clock,
            folder,
            jobs,
            batches,
            quotas,
            events,
            sitter: setup.sitter,
            webhooks,
            lock,
            schema: setup.schema,
            running,
            seen,
            done,
            release,
            broken,
            stop: Some(stop),
            server: tokio::spawn(server.run(async { _ = stopped.await })),
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

    /// What failed for a passing reason works from now on.
    pub(crate) fn mend(&self) {
        self.broken.store(false, Ordering::SeqCst);
    }

    /// Asks what is in an image, with these headers beside those of the form.
    pub(crate) async fn analyze(&self, bytes: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.ask(ANALYZE, &[&[FORM], headers].concat(), &image(bytes)).await
    }

    /// The same, not waiting for the answer.
    pub(crate) async fn begin(&self, bytes: &[u8], headers: &[(&str, &str)]) -> Wire {
        let mut wire = self.open().await;
        wire.send(&request(ANALYZE, &[&[FORM], headers].concat(), &image(bytes))).await;
        wire
    }

    /// What is read at an address.
    pub(crate) async fn read(&self, address: &str) -> Value {
        let answer = self.ask(&format!("GET {address}"), &[], b"").await;
        assert_eq!(answer.status, 200, "{address}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// A job after its end.
    pub(crate) async fn end_of(&self, job: &str) -> Value {
        self.read(&format!("/v1/jobs/{job}?wait=50")).await
    }

    /// How many analyses began since it was asked last.
    pub(crate) fn runs(&mut self) -> usize {
        std::iter::from_fn(|| self.running.try_recv().ok()).filter(|began| *began).count()
    }

    /// That the ledger is sound, nothing is held any more, and so many units were charged.
    pub(crate) async fn assert_charged(&self, units: i64) {
        assert_eq!(self.store.audit().await, Ok(Audit::default()), "the ledger is sound");
        let balance = self.store.balance(self.project, Mode::Live).await;
        assert_eq!(balance, Ok(Balance { reserved: 0, used: units }), "what was charged");
    }

    /// Dies without a word to anybody, and starts again in the same folder.
    pub(crate) async fn crash_and_restart(self, setup: Setup) -> Self {
        self.server.abort();
        self.jobs.abandon();
        self.webhooks.abandon();
        self.events.stop();
        self.again(setup).await
    }

    /// Is stopped as by SIGTERM, and starts again in the same folder.
    pub(crate) async fn stop_and_restart(mut self, setup: Setup) -> Self {
        self.stop();
        (&mut self.server).await.expect("the server does not panic");
        self.again(setup).await
    }

    /// Is stopped; what it leaves.
    pub(crate) async fn stop_for_good(mut self) -> (TempDir, TestClock) {
        self.stop();
        (&mut self.server).await.expect("the server does not panic");
        (self.folder, self.clock)
    }

    async fn again(self, setup: Setup) -> Self {
        drop(self.lock);
        drop(self.store);
        let (folder, clock) = (Some(self.folder), Some(self.clock));
        Self::set_up(Setup { folder, clock, schema: self.schema, ..setup }).await
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

#[derive(Clone)]
struct Script {
    began: mpsc::UnboundedSender<bool>,
    does: mpsc::UnboundedSender<AnalyzeRequest>,
    gate: Arc<Notify>,
    broken: Arc<AtomicBool>,
    clock: Clock,
}

impl Script {
    /// The engine that does as it says; what it looks at is told to `looked`.
    fn analyzer(self, looked: mpsc::UnboundedSender<Looked>, snapshot: &'static str) -> Analyzer {
        Analyzer::new(
            move |bytes: Bytes, sha256, request, declared| {
                let checked = check(&bytes, (sha256, snapshot), &request);
                _ = looked.send(Looked { bytes, request, declared });
                async move { checked }
            },
            move |attempt| {
                let script = self.clone();
                async move { script.run(attempt).await }
            },
            capabilities,
        )
    }

    async fn run(&self, attempt: Attempt) -> Result<Remarks, ApiError> {
        _ = self.began.send(true);
        let _running = Running(self.began.clone());
        let Attempt { bytes, request, ended, .. } = attempt;
        _ = self.does.send(request.clone());
        let broken = self.broken.load(Ordering::SeqCst);
        match bytes.get(..4) {
            Some(b"wait") => self.gate.notified().await,
            Some(b"pani") if broken => panic!("as the test wants it"),
            Some(b"dark") => {
                return Err(ApiError::new(ErrorCode::TooDark, "The mean brightness is 3 of 255."));
            }
            _ => {}
        }
        let fails = bytes.starts_with(b"fail") && broken;
        let model = request.parameters.objects.model.as_deref().unwrap_or("cats@1");
        let cats = if bytes.starts_with(b"huge") { 4000 } else { 1 };
        for (index, feature) in request.features.iter().enumerate() {
            if index > 0 && bytes.starts_with(b"half") {
                self.gate.notified().await;
            }
            let failed = fails && (index > 0 || request.features.len() == 1);
            let problem = || Problem::new(ErrorCode::ModelFailed, "The model failed.");
            _ = ended.send(StepEnd {
                feature: *feature,
                model: Some(model.to_owned()),
                result: if failed { Err(problem()) } else { Ok(found(model, cats)) },
                started_at: self.clock.now(),
                finished_at: self.clock.now(),
            });
        }
        Ok(Remarks::default())
    }
}

fn check(
    bytes: &[u8],
    (sha256, snapshot): ([u8; 32], &str),
    request: &AnalyzeRequest,
) -> Result<Checked, ApiError> {
    if bytes.starts_with(b"empt") {
        return Err(EngineError::Image(ImageError::Empty).into());
    }
    let input = Input {
        image_id: ImageId::new(),
        sha256: hex::encode(sha256),
        bytes: bytes.len() as u64,
        format: ImageFormat::Jpeg,
        width: 640,
        height: 480,
        megapixels: 0.3072,
        frames: 1,
    };
    let snapshots = request.features.iter().map(|feature| (*feature, Some(snapshot.to_owned()))).collect();
    Ok(Checked { input, warnings: Vec::new(), snapshots, course: None, kept: Vec::new() })
}

fn found(model: &str, cats: usize) -> Results {
    let cat = Object {
        label: "cat".to_owned(),
        confidence: 0.75,
        confidence_band: ConfidenceBand::High,
        bounds: BoundingBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 },
    };
    let objects = Objects {
        model: model.to_owned(),
        confidence_guide: format!("/v1/models/{model}#confidence"),
        items: vec![cat; cats],
    };
    Results { objects: Some(objects), ..Results::default() }
}
