use std::time::Duration;

use crate::{
    Arrivals, Scenario,
    plant::Request,
    scenario::{BASE, POLITE, RUDE, SLOPE, STORM, WORKERS},
};

/// Before this nothing is counted, seconds.
const WARM_UP: f64 = 20.0;

/// Requests born so late may still be under way at the end, seconds.
const TAIL: f64 = 25.0;

/// What came out, as it is counted on the way.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) refused: u32,
    pub(crate) refused_while_idle: u32,
    /// Runs whose answer reached nobody.
    pub(crate) wasted: u32,
    finished: Vec<(Duration, usize, Duration)>,
}

impl Served {
    pub(crate) fn finished(&mut self, at: Duration, request: usize, sojourn: Duration) {
        self.finished.push((at, request, sojourn));
    }
}

/// What a run was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Useful work done, as a part of what can be done.
    pub goodput: f64,
    /// Requests of polite tenants that were answered in the end.
    pub polite: f64,
    /// The same of those below 2 megapixels.
    pub small: f64,
    /// And above 6.
    pub large: f64,
    /// Answered at the first try, of polite tenants.
    pub first_try: f64,
    /// 99th percentile of the time in the server, polite tenants, seconds.
    pub p99: f64,
    /// Jain's index of the polite tenants' shares answered: 1 where they are alike.
    pub jain: f64,
    /// Refusals.
    pub refused: u32,
    /// Refusals while a worker had nothing to do.
    pub refused_while_idle: u32,
    /// Runs whose answer reached nobody.
    pub wasted: u32,
    /// Seconds after the storm until 99 % of what arrives within five seconds is answered, within 2 s; none: never.
    pub recovery: Option<f64>,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, requests: &[Request], served: &Served) -> Self {
        let end = scenario.time.as_secs_f64();
        let of_interest = |request: &&Request| {
            (WARM_UP..end - TAIL).contains(&request.born.as_secs_f64()) && request.tenant != RUDE
        };
        let polite: Vec<_> = requests.iter().filter(of_interest).collect();
        let finished: Vec<_> =
            served.finished.iter().filter(|(at, ..)| (WARM_UP..end).contains(&at.as_secs_f64())).collect();
        let work: f64 = finished.iter().map(|(_, index, _)| line(&requests[*index])).sum();
        let mut sojourns: Vec<_> = finished
            .iter()
            .filter(|(_, index, _)| requests[*index].tenant != RUDE)
            .map(|(.., sojourn)| sojourn.as_secs_f64())
            .collect();
        let tenants: Vec<_> = (0..POLITE).map(|n| share(&polite, |one| one.tenant == n, done)).collect();
        Self {
            goodput: work / (end - WARM_UP) / WORKERS as f64,
            polite: share(&polite, |_| true, done),
            small: share(&polite, |one| one.megapixels < 2.0, done),
            large: share(&polite, |one| one.megapixels > 6.0, done),
            first_try: share(&polite, |_| true, |one| one.done && one.tries == 1),
            p99: percentile(&mut sojourns, 0.99),
            jain: jain(&tenants),
            refused: served.refused,
            refused_while_idle: served.refused_while_idle,
            wasted: served.wasted,
            recovery: recovery(scenario, requests, served),
        }
    }
}

fn line(request: &Request) -> f64 {
    BASE + SLOPE * request.megapixels
}

fn done(request: &Request) -> bool {
    request.done
}

/// Of those that count, how many are fine; 0 where none counts.
fn share(of: &[&Request], counts: impl Fn(&Request) -> bool, fine: impl Fn(&Request) -> bool) -> f64 {
    let counted: Vec<_> = of.iter().filter(|request| counts(request)).collect();
    counted.iter().filter(|request| fine(request)).count() as f64 / counted.len().max(1) as f64
}

fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = ((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1));
    values.get(place).copied().unwrap_or(f64::INFINITY)
}

/// Jain, Chiu, Hawe: A Quantitative Measure of Fairness (DEC-TR-301).
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares): (f64, f64) = (shares.iter().sum(), shares.iter().map(|share| share * share).sum());
    if squares == 0.0 { 0.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

fn recovery(scenario: &Scenario, requests: &[Request], served: &Served) -> Option<f64> {
    let Arrivals::Storm(_) = scenario.arrivals else { return None };
    let ends = (STORM.1 as u32)..(scenario.time.as_secs_f64() - 20.0) as u32;
    let recovered = |from: &u32| {
        let span = f64::from(*from)..f64::from(from + 5);
        let born: Vec<_> = requests.iter().filter(|one| span.contains(&one.born.as_secs_f64())).collect();
        let mut sojourns: Vec<_> = served
            .finished
            .iter()
            .filter(|(_, index, _)| span.contains(&requests[*index].born.as_secs_f64()))
            .map(|(.., sojourn)| sojourn.as_secs_f64())
            .collect();
        share(&born, |_| true, done) >= 0.99 && percentile(&mut sojourns, 0.99) < 2.0
    };
    ends.into_iter().find(recovered).map(|second| f64::from(second) - STORM.1)
}
