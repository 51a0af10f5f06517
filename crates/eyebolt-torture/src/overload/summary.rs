use super::{
    client::Lived,
    scenario::{POLITE, RUDE, STORM, Scenario, WORKERS, service},
};

pub(super) const HEADER: &str = "| scenario | goodput | polite | first try | p50 / p99, s | large / small | Jain | refused | \
                                 a refusal, p50 / p99 ms | others | recovery, s |\n\
                                 | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

/// Before this nothing is counted, seconds.
const WARM_UP: f64 = 5.0;

/// Requests born so late may be under way at the end, seconds.
const TAIL: f64 = 15.0;

pub(super) fn row(scenario: &Scenario, lives: &[Lived]) -> String {
    let end = scenario.seconds;
    let born = |lived: &&Lived| lived.tenant != RUDE && (WARM_UP..end - TAIL).contains(&lived.born);
    let polite: Vec<_> = lives.iter().filter(born).collect();
    let answered = lives.iter().filter(|lived| lived.answered.is_some_and(|(at, _)| at >= WARM_UP));
    let work: f64 = answered.map(|lived| service(lived.megapixels)).sum();
    let times = polite.iter().filter_map(|lived| lived.answered.map(|(_, took)| took)).collect();
    let refusals: Vec<_> = lives.iter().flat_map(|lived| lived.refusals.iter().copied()).collect();
    let (large, small) =
        (share(&polite, |one| one.megapixels > 6.0), share(&polite, |one| one.megapixels < 2.0));
    let first = polite.iter().filter(|one| one.answered.is_some() && one.tries == 1).count();
    format!(
        "| {} | {:.2} | {:.3} | {:.2} | {} | {:.2} | {:.3} | {} | {} | {} | {} |",
        scenario.name,
        work / (end - WARM_UP) / WORKERS as f64,
        share(&polite, |_| true),
        first as f64 / polite.len() as f64,
        percentiles(times, 1.0),
        large / small,
        jain(&polite),
        refusals.len(),
        percentiles(refusals, 1e3),
        lives.iter().map(|lived| lived.others).sum::<u32>(),
        recovery(scenario, lives).map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0}")),
    )
}

fn share(lives: &[&Lived], of: impl Fn(&Lived) -> bool) -> f64 {
    let all = lives.iter().filter(|lived| of(lived)).count();
    let answered = lives.iter().filter(|lived| of(lived) && lived.answered.is_some()).count();
    answered as f64 / all as f64
}

/// Jain's index of the shares of the polite tenants: 1 where they are alike.
fn jain(polite: &[&Lived]) -> f64 {
    let shares: Vec<_> = (0..POLITE).map(|tenant| share(polite, |one| one.tenant == tenant)).collect();
    let (sum, squares) = (shares.iter().sum::<f64>(), shares.iter().map(|share| share * share).sum::<f64>());
    sum * sum / (POLITE as f64 * squares)
}

/// Seconds after the storm until 99 % of what arrives within five seconds is answered, and 99 % of that by a try of less than
/// 2 s: as in virtual time.
fn recovery(scenario: &Scenario, lives: &[Lived]) -> Option<f64> {
    if !scenario.has_storm() {
        return None;
    }
    let windows =
        (0..).map(|step| STORM.1 + f64::from(step)).take_while(|from| from + 5.0 <= scenario.seconds - TAIL);
    let mut windows = windows.filter(|from| {
        let arrived = || lives.iter().filter(|lived| (*from..from + 5.0).contains(&lived.born));
        let answered = arrived().filter_map(|lived| lived.answered).count();
        let soon = arrived().filter(|lived| lived.answered.is_some_and(|(_, took)| took < 2.0)).count();
        answered as f64 >= 0.99 * arrived().count() as f64 && soon as f64 >= 0.99 * answered as f64
    });
    windows.next().map(|from| from - STORM.1)
}

/// The median and the 99th percentile.
fn percentiles(mut values: Vec<f64>, scale: f64) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.sort_by(f64::total_cmp);
    let at = |part: f64| scale * values[((values.len() - 1) as f64 * part) as usize];
    format!("{:.2} / {:.2}", at(0.5), at(0.99))
}
