//! What the capacity law promises, in twenty runs of each scenario. `cargo run -p eyebolt-plant --release -- --seeds 1000`
//! prints the figures of more.

use std::time::Duration;

use eyebolt_plant::{Arrivals, LawName, Report, Scenario, Trouble, run};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;

fn runs(scenario: Scenario) -> Vec<(u64, Report)> {
    let reports: Vec<_> = SEEDS.map(|seed| (seed, run(LawName::Eyebolt, scenario, seed))).collect();
    for (seed, report) in &reports {
        assert_eq!(report.refused_while_idle, 0, "seed {seed}: {report:?}");
        assert_eq!(report.wasted, 0, "seed {seed}: {report:?}");
    }
    reports
}

fn mean(reports: &[(u64, Report)], of: impl Fn(&Report) -> f64) -> f64 {
    reports.iter().map(|(_, report)| of(report)).sum::<f64>() / reports.len() as f64
}

/// Whoever behaves does not notice the neighbour who does not.
#[test]
fn a_rude_tenant_costs_itself() {
    for load in [1.5, 10.0] {
        for (seed, report) in runs(Scenario::new(Arrivals::Rude(load))) {
            assert!(report.goodput >= 0.97, "{load} × seed {seed}: {report:?}");
            assert!(report.polite >= 0.995, "{load} × seed {seed}: {report:?}");
            assert!(report.p99 <= 0.6, "{load} × seed {seed}: {report:?}");
        }
    }
}

#[test]
fn ten_thousand_requests_of_one_tenant_cost_that_tenant() {
    for (seed, report) in runs(Scenario::new(Arrivals::Flood)) {
        assert!(report.goodput >= 0.97 && report.polite >= 0.995 && report.p99 <= 0.6, "{seed}: {report:?}");
    }
}

#[test]
fn a_flood_of_the_largest_images_costs_that_tenant() {
    for (seed, report) in runs(Scenario::new(Arrivals::LargeImages(1.5))) {
        assert!(report.goodput >= 0.95 && report.polite >= 0.99 && report.p99 <= 1.0, "{seed}: {report:?}");
    }
}

#[test]
fn where_all_want_too_much_all_get_alike() {
    for (load, goodput) in [(1.5, 0.95), (3.0, 0.95), (10.0, 0.84)] {
        let reports = runs(Scenario::new(Arrivals::Even(load)));
        for (seed, report) in &reports {
            assert!(report.goodput >= goodput && report.jain >= 0.99, "{load} × seed {seed}: {report:?}");
        }
        if load == 10.0 {
            assert!(mean(&reports, |report| report.goodput) >= 0.85);
        }
    }
}

/// Refusing by work that waits is hard on whoever brings much of it.
#[test]
fn large_images_are_served_about_as_often_as_small_ones() {
    for (load, each, all) in [(1.5, 0.8, 0.9), (3.0, 0.8, 0.9), (10.0, 0.7, 0.85)] {
        let reports = runs(Scenario::new(Arrivals::Even(load)));
        for (seed, report) in &reports {
            assert!(report.large / report.small >= each, "{load} × seed {seed}: {report:?}");
        }
        let mean = mean(&reports, |report| report.large / report.small);
        assert!((all..1.1).contains(&mean), "{load} ×: {mean}");
    }
}

#[test]
fn a_storm_is_over_soon_after_it_ends() {
    for load in [3.0, 10.0] {
        // Clients wait for up to 24 s before their sixth try.
        let scenario = Scenario { time: Duration::from_mins(2), ..Scenario::new(Arrivals::Storm(load)) };
        for (seed, report) in runs(scenario) {
            let recovery = report.recovery.unwrap_or(f64::INFINITY);
            assert!(recovery <= 25.0, "{load} × seed {seed}: {report:?}");
        }
    }
}

#[test]
fn what_goes_wrong_is_lived_with() {
    let busy = Scenario::new(Arrivals::Even(1.5));
    let patience = Duration::from_millis(400);
    for (trouble, goodput, p99) in [
        // From 40 s on half as much can be done, and one worker does nothing: 0.63 and 0.75 of the machine.
        (Trouble::Slower, 0.58, 1.6),
        (Trouble::Hung, 0.70, 1.6),
        (Trouble::Mistaken(4.0), 0.95, 1.2),
        (Trouble::Mistaken(0.25), 0.95, 1.2),
        (Trouble::Impatient(patience), 0.95, 1.2),
        (Trouble::Clock(3600), 0.95, 1.2),
        (Trouble::Clock(-3600), 0.95, 1.2),
    ] {
        for (seed, report) in runs(busy.with(trouble)) {
            let fine = report.goodput >= goodput && report.p99 <= p99 && report.jain >= 0.985;
            assert!(fine, "{trouble:?} seed {seed}: {report:?}");
        }
    }
}

/// The plant itself: what others do in it is what is known of them.
#[test]
fn without_a_limit_a_storm_never_ends() {
    let scenario = Scenario::new(Arrivals::Storm(3.0));
    for seed in [1, 2, 3] {
        let report = run(LawName::NoLimit, scenario, seed);
        assert!(report.recovery.is_none() && report.goodput < 0.3, "{report:?}");
        let buckets = run(LawName::TokenBuckets, scenario, seed);
        assert!(buckets.refused_while_idle > 0, "{buckets:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario { time: Duration::from_mins(1), ..Scenario::new(Arrivals::Rude(3.0)) };
    for law in LawName::ALL {
        assert_eq!(run(law, scenario, 7), run(law, scenario, 7));
    }
}
