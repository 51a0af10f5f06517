//! How long it takes to look for an image among a million others:
//! `cargo run --release -p eyebolt-store --example near_lookup [IMAGES [POSTGRES_URL]]`.
//!
//! Digests are random, as long as the engine's, and share bands as often as chance wills: four bands of 22 bits each,
//! asked for by 48 probes. Each look-up goes through bytes, pixels and near pictures, and finds nothing.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, Instant},
};

use eyebolt_store::{ContentKey, Location, NearEntry, NearSought, Search, Sought, Store};
use eyebolt_types::{
    Clock, Mode,
    id::{JobId, ProjectId},
};
use jiff::SignedDuration;

const DIGEST: usize = 1026;
const LOOKUPS: usize = 5000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let images = arguments.next().map_or(1_000_000, |count| count.parse().expect("a number of images"));
    let folder = tempfile::tempdir().expect("a folder for the file");
    let url = arguments.next();
    let location = url.map_or_else(|| Location::Sqlite(folder.path().join("eyebolt.db")), Location::Postgres);
    let clock = Clock::system();
    let store = Store::open(&location, clock.now()).expect("the database opens");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let project = ProjectId::new();
    let begun = Instant::now();
    runtime.block_on(fill(&store, &clock, (project, images)));
    println!("{images} images, {:.0} kept a second", f64::from(images) / begun.elapsed().as_secs_f64());
    gather_statistics(&location);
    let mut times = runtime.block_on(look_up(&store, &clock, project));
    times.sort_unstable();
    let rank = |share: f64| times[(times.len() as f64 * share) as usize];
    println!("p50 {:?}, p99 {:?}, worst {:?}", rank(0.5), rank(0.99), rank(0.999_999));
}

/// PostgreSQL plans by statistics, which its autovacuum keeps, but not at once.
fn gather_statistics(location: &Location) {
    if let Location::Postgres(url) = location {
        let mut client = postgres::Client::connect(url, postgres::NoTls).expect("the server answers");
        client.batch_execute("ANALYZE contents; ANALYZE content_bands").expect("the tables are there");
    }
}

/// Random enough: keyed anew by the system each time.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn digest() -> Vec<u8> {
    std::iter::repeat_with(random).flat_map(u64::to_le_bytes).take(DIGEST).collect()
}

fn bands(count: u32) -> Vec<u32> {
    (0..count).map(|index| ((index % 4) << 22) | (random() as u32 & 0x3f_ffff)).collect()
}

fn hash() -> [u8; 32] {
    std::array::from_fn(|_| random() as u8)
}

/// From 64 callers at once, so that they share commits.
async fn fill(store: &Store, clock: &Clock, (project, images): (ProjectId, u32)) {
    let callers = (0..64).map(|caller| {
        let (store, clock) = (store.clone(), clock.clone());
        tokio::spawn(async move {
            for _ in (caller..images).step_by(64) {
                let key = key(project);
                let near = NearEntry { digest: digest(), bands: bands(4) };
                let kept = store.remember_content((key, hash()), Some((hash(), Some(near))), clock.now());
                kept.await.expect("the database keeps it");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no caller panics");
    }
}

fn key(project: ProjectId) -> ContentKey {
    ContentKey { project, mode: Mode::Live, operation: [0; 32], job: JobId::new() }
}

/// As much work as the engine's distance has with pictures that have nothing in common.
fn distance(one: &[u8], other: &[u8]) -> Option<u32> {
    let product: i32 = one.iter().zip(other).map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8)).sum();
    (product == i32::MAX).then_some(0)
}

async fn look_up(store: &Store, clock: &Clock, project: ProjectId) -> Vec<Duration> {
    let mut times = Vec::with_capacity(LOOKUPS);
    for _ in 0..LOOKUPS {
        let near = NearSought { digest: digest(), probes: bands(48), distance };
        let sought = Sought { bytes: Some(hash()), pixels: Some(hash()), near: Some(near) };
        let since = clock.now() - SignedDuration::from_hours(24);
        let begun = Instant::now();
        let found = store.find_content((key(project), Search::Flag), sought, since).await;
        times.push(begun.elapsed());
        assert_eq!(found.expect("the database answers"), None);
    }
    times
}
