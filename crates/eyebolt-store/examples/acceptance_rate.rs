//! How many jobs a second the store accepts, claims and closes, each durable, from many callers at once:
//! `cargo run --release -p eyebolt-store --example acceptance_rate [POSTGRES_URL]`.

use std::time::{Duration, Instant};

use eyebolt_store::{
    Acceptance, Answer, Charging, Closing, Document, Idempotency, Lease, Location, NewEvent, NewImage,
    NewJob, NewStep, StepOutcome, Store, StoredJob,
};
use eyebolt_types::{
    Class, Clock, EventType, Feature, JobStatus, Mode,
    id::{EventId, ImageId, JobId, ProjectId, StepId},
};
use jiff::SignedDuration;

const SECONDS: u64 = 5;

/// Size of an image, bytes: small enough to be kept in its row.
const IMAGE: usize = 4 << 10;

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let url = std::env::args().nth(1);
    let location = url.map_or_else(|| Location::Sqlite(folder.path().join("eyebolt.db")), Location::Postgres);
    let clock = Clock::system();
    let store = Store::open(&location, clock.now()).expect("the database opens");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    println!("| callers | accepted/s | claimed and closed/s |\n| ---: | ---: | ---: |");
    for callers in [1, 16, 64, 256] {
        let (accepted, closed) = runtime.block_on(measure(store.clone(), clock.clone(), callers));
        println!("| {callers} | {accepted:.0} | {closed:.0} |");
    }
}

async fn measure(store: Store, clock: Clock, callers: usize) -> (f64, f64) {
    let name = JobId::new().to_string();
    let project = store.create_project(&name, clock.now()).await.expect("a project").expect("a new name").id;
    let accepting = (0..callers).map(|_| {
        let (store, clock) = (store.clone(), clock.clone());
        tokio::spawn(async move { accept(&store, &clock, project).await })
    });
    let accepted = total(accepting.collect()).await;
    let begun = Instant::now();
    let closing = (0..callers).map(|_| {
        let (store, clock) = (store.clone(), clock.clone());
        tokio::spawn(async move { close(&store, &clock).await })
    });
    let closed = total(closing.collect()).await;
    (accepted as f64 / SECONDS as f64, closed as f64 / begun.elapsed().as_secs_f64())
}

async fn total(callers: Vec<tokio::task::JoinHandle<u64>>) -> u64 {
    let mut total = 0;
    for caller in callers {
        total += caller.await.expect("no caller panics");
    }
    total
}

/// Accepts jobs for some seconds; how many.
async fn accept(store: &Store, clock: &Clock, project: ProjectId) -> u64 {
    let (end, mut accepted) = (Instant::now() + Duration::from_secs(SECONDS), 0);
    while Instant::now() < end {
        let id = JobId::new();
        let key_hash = id.to_string().into_bytes();
        let sha256 = std::array::from_fn(|index| key_hash[key_hash.len() - 32 + index]);
        let job = NewJob {
            id,
            project,
            mode: Mode::Live,
            key: None,
            request_id: "req".to_owned(),
            request: r#"{"features":["objects"]}"#.to_owned(),
            input: "{}".to_owned(),
            image: NewImage {
                id: ImageId::new(),
                sha256,
                bytes: IMAGE as u64,
                content: Some(vec![b'x'; IMAGE]),
            },
            dedup: "{}".to_owned(),
            operation: Some([7; 32]),
            steps: vec![NewStep { id: StepId::new(), feature: Feature::Objects, model: None, units: 1 }],
            class: Class::Standard,
            predicted: Duration::from_millis(20),
            deadline: clock.now() + SignedDuration::from_mins(10),
            idempotency: Some(Idempotency { fingerprint: key_hash.clone(), key_hash, body: None }),
            lease: None,
            taken_over: eyebolt_store::TakenOver::default(),
            caps: None,
        };
        let done = store.accept(job, clock.now()).await.expect("the database accepts");
        assert!(matches!(done, Acceptance::Accepted(_)), "the key is new");
        accepted += 1;
    }
    accepted
}

/// Claims and closes jobs, eight at a time, until none is left; how many.
async fn close(store: &Store, clock: &Clock) -> u64 {
    let mut closed = 0;
    loop {
        let lease = Lease { owner: "bench".to_owned(), until: clock.now() + SignedDuration::from_secs(10) };
        let lines = store.lines(clock.now()).await.expect("the database answers");
        let lines = lines.into_iter().map(|waiting| (waiting.line, 8)).collect();
        let leased = store.claim(lease, lines, clock.now()).await.expect("the database answers").concat();
        if leased.is_empty() {
            return closed;
        }
        for leased in leased {
            let done =
                store.close((leased.job.id, leased.token), succeeded(clock, &leased.job), clock.now()).await;
            done.expect("the database answers").expect("the lease holds");
            closed += 1;
        }
    }
}

fn succeeded(clock: &Clock, job: &StoredJob) -> Closing {
    let now = clock.now();
    let result = Ok(vec![b'x'; 100]);
    let step = StepOutcome {
        position: 0,
        attempt: 1,
        model: None,
        result,
        last: true,
        started_at: now,
        finished_at: now,
    };
    let event = NewEvent {
        id: EventId::of(*job.id.to_string().as_bytes().last_chunk().expect("an id is longer")),
        kind: EventType::JobSucceeded,
        version: job.round,
        data: "x".repeat(450),
        told_at: None,
        batch: None,
    };
    Closing {
        status: JobStatus::Succeeded,
        error: None,
        steps: vec![step],
        document: Document::Inline(vec![b'x'; 450]),
        answer: Some(Answer { status: 200, body: None }),
        expires_at: now + SignedDuration::from_hours(24),
        retryable_until: None,
        charge: Charging::Steps,
        content: None,
        event,
    }
}
