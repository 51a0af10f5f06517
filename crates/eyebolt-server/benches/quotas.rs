//! What it costs to ask for limits, as a request does: one that is counted by time, of three that the project has. In memory
//! the best of several rounds; through Redis each decision by itself, from one caller and from many.
//!
//! ```sh
//! cargo bench -p eyebolt-server --bench quotas [redis://127.0.0.1:6379]
//! ```

use std::time::{Duration, Instant};

use eyebolt_server::{
    Quotas,
    quotas::{QuotaSettings, Told},
};
use eyebolt_store::Principal;
use eyebolt_types::{
    Clock, LimitOverrides, Limits, Mode, Policy, Scope,
    id::{KeyId, ProjectId, RequestId},
};

const ROUNDS: usize = 20;
const CALLS: u32 = 20_000;
const DECISIONS: usize = 5_000;

fn settings(limits: &[Policy], url: &str) -> QuotaSettings {
    let limits = Limits(limits.iter().map(|policy| (*policy, 1_000_000_000)).collect());
    QuotaSettings {
        plans: [("standard".to_owned(), limits)].into(),
        counters_url: url.into(),
        counters_prefix: format!("bench-{}", RequestId::new()),
        counters_timeout: Duration::from_secs(1),
        ..QuotaSettings::default()
    }
}

fn caller() -> Principal {
    Principal {
        key: KeyId::new(),
        project: ProjectId::new(),
        mode: Mode::Live,
        scopes: Scope::ALL.to_vec(),
        dedup_policy: None,
        plan: None,
        limits: LimitOverrides::default(),
        key_limits: Limits::default(),
    }
}

async fn decide(quotas: &Quotas, caller: &Principal) {
    let taken = quotas.take(caller, &[(Policy::RequestsPerMinute, 1)], &Told::default()).await;
    taken.expect("the limit is high").spend();
}

const ONE: [Policy; 1] = [Policy::RequestsPerMinute];
const THREE: [Policy; 3] = [Policy::RequestsPerMinute, Policy::UnitsPerMinute, Policy::BytesPerDay];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("| decision | time |\n| --- | ---: |");
    for (name, limits) in [("no limit", &[][..]), ("one limit", &ONE), ("three limits", &THREE)] {
        let quotas = Quotas::open(settings(limits, ""), Clock::system()).await.expect("memory");
        println!("| in memory, {name} | {:.0} ns |", in_memory(&quotas).await);
    }
    let url = std::env::args().skip(1).find(|argument| argument.contains("://"));
    let url = url.unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    for (name, limits) in [("one limit", &ONE[..]), ("three limits", &THREE)] {
        let quotas = Quotas::open(settings(limits, &url), Clock::system()).await.expect("an address");
        assert_eq!(quotas.shared(), Some(true), "a Redis server at {url}");
        for callers in [1, 16] {
            let [half, most] = through_redis(&quotas, callers).await;
            println!(
                "| through Redis, {name}, {callers} at once: p50 | {half:.0} µs |\n| the same: p99 | {most:.0} µs |"
            );
        }
        assert_eq!(quotas.shared(), Some(true), "every decision was shared");
    }
}

/// The least time of a decision, nanoseconds.
async fn in_memory(quotas: &Quotas) -> f64 {
    let (caller, mut best) = (caller(), f64::INFINITY);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..CALLS {
            decide(quotas, &caller).await;
        }
        best = best.min(begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    best
}

/// Microseconds: half of the decisions, and 99 of 100.
async fn through_redis(quotas: &Quotas, callers: usize) -> [f64; 2] {
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (quotas, caller) = (quotas.clone(), caller());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..DECISIONS / callers {
                    let begun = Instant::now();
                    decide(&quotas, &caller).await;
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no panic"));
    }
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}
