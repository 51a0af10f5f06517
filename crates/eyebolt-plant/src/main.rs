//! Prints the tables of docs/overload.md.

use std::time::Duration;

use clap::Parser;
use eyebolt_plant::{Arrivals, LawName, Report, Scenario, Trouble, run};

#[derive(Parser)]
struct Arguments {
    /// Runs of each scenario, with seeds from 1 on.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Ours alone.
    #[arg(long)]
    ours: bool,
}

fn main() {
    let arguments = Arguments::parse();
    println!(
        "| scenario | law | goodput | polite | first try | p99, s | large / small | Jain | refused | while idle | wasted | recovery, s |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, scenario) in scenarios() {
        for law in LawName::ALL {
            if arguments.ours && law != LawName::Eyebolt {
                continue;
            }
            let reports: Vec<_> = (1..=arguments.seeds).map(|seed| run(law, scenario, seed)).collect();
            println!("| {name} | {} | {} |", law.name(), row(&reports));
        }
    }
}

fn scenarios() -> Vec<(&'static str, Scenario)> {
    let of = |arrivals| Scenario::new(arrivals);
    let longer = |arrivals| Scenario { time: Duration::from_mins(2), ..of(arrivals) };
    vec![
        ("rude tenant, 1.5 ×", of(Arrivals::Rude(1.5))),
        ("rude tenant, 10 ×", of(Arrivals::Rude(10.0))),
        ("all polite, 0.9 ×", of(Arrivals::Even(0.9))),
        ("all polite, 1.5 ×", of(Arrivals::Even(1.5))),
        ("all polite, 3 ×", of(Arrivals::Even(3.0))),
        ("all polite, 10 ×", of(Arrivals::Even(10.0))),
        ("storm, 3 ×", longer(Arrivals::Storm(3.0))),
        ("storm, 10 ×", longer(Arrivals::Storm(10.0))),
        ("40-megapixel images, 1.5 ×", of(Arrivals::LargeImages(1.5))),
        ("10,000 requests in 4 minutes", of(Arrivals::Flood)),
        ("1.5 ×, twice as slow", of(Arrivals::Even(1.5)).with(Trouble::Slower)),
        ("1.5 ×, a hung worker", of(Arrivals::Even(1.5)).with(Trouble::Hung)),
        ("1.5 ×, costs taken for 4 ×", of(Arrivals::Even(1.5)).with(Trouble::Mistaken(4.0))),
        ("1.5 ×, costs taken for a quarter", of(Arrivals::Even(1.5)).with(Trouble::Mistaken(0.25))),
        (
            "1.5 ×, clients wait 0.4 s",
            of(Arrivals::Even(1.5)).with(Trouble::Impatient(Duration::from_millis(400))),
        ),
        ("1.5 ×, clock set forward an hour", of(Arrivals::Even(1.5)).with(Trouble::Clock(3600))),
        ("1.5 ×, clock set back an hour", of(Arrivals::Even(1.5)).with(Trouble::Clock(-3600))),
    ]
}

/// Least and most of all runs.
fn row(reports: &[Report]) -> String {
    let span = |of: &dyn Fn(&Report) -> f64, digits: usize| {
        let values = reports.iter().map(of).filter(|value| value.is_finite());
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(a, b), value| (a.min(value), b.max(value)));
        if least > most {
            return "-".to_owned();
        }
        let (least, most) = (format!("{least:.digits$}"), format!("{most:.digits$}"));
        if least == most { least } else { format!("{least}-{most}") }
    };
    let recovery = if reports.iter().any(|report| report.recovery.is_none()) {
        "-".to_owned()
    } else {
        span(&|report| report.recovery.unwrap_or(f64::NAN), 0)
    };
    [
        span(&|report| report.goodput, 2),
        span(&|report| report.polite, 3),
        span(&|report| report.first_try, 2),
        span(&|report| report.p99, 2),
        span(&|report| report.large / report.small, 2),
        span(&|report| report.jain, 3),
        span(&|report| f64::from(report.refused), 0),
        span(&|report| f64::from(report.refused_while_idle), 0),
        span(&|report| f64::from(report.wasted), 0),
        recovery,
    ]
    .join(" | ")
}
