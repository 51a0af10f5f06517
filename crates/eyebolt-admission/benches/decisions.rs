//! What a decision costs, without anything around it. The best of several rounds, in nanoseconds.
//!
//! ```sh
//! cargo bench -p eyebolt-admission
//! ```

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use eyebolt_admission::{
    Ask, Capacity, CapacitySettings, CostModel, Ending, Gcra, Quota, Runaway, RunawayLimits, Sight, Verdict,
};
use eyebolt_types::Class;

const ROUNDS: usize = 20;
const CALLS: u32 = 100_000;

fn main() {
    println!("| decision | ns |\n| --- | ---: |");
    row("limit (GCRA): let in", limit(1_000_000_000));
    row("limit (GCRA): refused", limit(1));
    row("cost of a request, predicted and learnt", cost());
    row("capacity: let in, begun, ended", served());
    row("capacity: refused beside 64 tenants that wait", refused());
    row("runaway: another image of a client, looked at and noted", noted());
    row("runaway: a loop, refused", detained());
}

fn row(name: &str, nanos: f64) {
    println!("| {name} | {nanos:.0} |");
}

/// The least time of a call. `call` is told how many came before it.
fn best(mut call: impl FnMut(u32)) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        (0..CALLS).for_each(&mut call);
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn micros(n: u32) -> Duration {
    Duration::from_micros(u64::from(n))
}

fn limit(units: u64) -> f64 {
    let (mut gcra, quota) = (Gcra::default(), Quota::new(units, Duration::from_mins(1)));
    best(|n| {
        black_box(gcra.ask(quota, 1, micros(n)));
    })
}

fn cost() -> f64 {
    let mut model = CostModel::new(0.008, 0.012);
    best(|n| {
        let megapixels = f64::from(n % 40);
        model.learn(megapixels, Duration::from_secs_f64(black_box(model.predict(megapixels))));
    })
}

fn runaway() -> Runaway {
    let longest_wait = Duration::from_mins(1);
    Runaway::new(RunawayLimits { repeats: 120, replays: 120, early: 10, final_errors: 20, longest_wait })
}

fn sight(image: u32, arrived: Duration) -> Sight {
    let digest = Some(u64::from(image));
    Sight { caller: 1, name: digest, content: digest, arrived }
}

fn noted() -> f64 {
    let mut runaway = runaway();
    best(|n| {
        let seen = sight(n, micros(n));
        black_box(runaway.detains(&seen));
        black_box(runaway.ended(&seen, Ending::Answered, micros(n + 1)));
    })
}

fn detained() -> f64 {
    let mut runaway = runaway();
    for n in 0..30 {
        runaway.ended(&sight(1, micros(10 * n)), Ending::FinalError, micros(10 * n + 1));
    }
    best(|n| {
        assert!(black_box(runaway.detains(&sight(1, micros(400 + n)))).is_some());
    })
}

fn ask(tenant: u32) -> Ask<u32> {
    Ask {
        tenant,
        caller: u64::from(tenant),
        class: Class::Interactive,
        service: 0.04,
        promised: false,
        chance: 0.5,
    }
}

fn served() -> f64 {
    let mut law = Capacity::new(CapacitySettings::new(2));
    best(|n| {
        law.offer(ask(n % 64), micros(n));
        if let Some(ticket) = law.next(micros(n)) {
            law.complete(ticket, micros(n + 1));
        }
    })
}

fn refused() -> f64 {
    let mut law = Capacity::new(CapacitySettings::new(2));
    for n in 0..66 {
        law.offer(ask(n), Duration::ZERO);
        law.next(Duration::ZERO);
    }
    best(|n| {
        let verdict = law.offer(ask(2 + n % 64), micros(n));
        debug_assert!(matches!(verdict, Verdict::Refused(_)));
        black_box(verdict);
    })
}
