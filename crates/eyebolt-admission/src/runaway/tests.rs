use proptest::prelude::*;

use super::*;

const SETTINGS: RunawayLimits = RunawayLimits {
    repeats: 120,
    replays: 120,
    early: 10,
    final_errors: 20,
    longest_wait: Duration::from_mins(1),
};

const CALLER: u64 = 7;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A server that always answers the same, and clients of it, in virtual time.
struct Simulated {
    runaway: Runaway,
    now: Duration,
    began: Vec<RunawayCause>,
    over: Vec<Episode>,
    passed: u32,
    detained: Vec<Detained>,
}

impl Simulated {
    fn new() -> Self {
        Self {
            runaway: Runaway::new(SETTINGS),
            now: Duration::from_hours(1),
            began: Vec::new(),
            over: Vec::new(),
            passed: 0,
            detained: Vec::new(),
        }
    }

    /// One request that is answered within a millisecond; how long to wait where it was not let in.
    fn send(
        &mut self,
        caller: u64,
        (name, content): (Option<u64>, Option<u64>),
        ending: Ending,
    ) -> Option<Duration> {
        let sight = Sight { caller, name, content, arrived: self.now };
        if let Some(detained) = self.runaway.detains(&sight) {
            self.detained.push(detained);
            return Some(detained.retry_in);
        }
        self.now += millis(1);
        self.passed += 1;
        self.began.extend(self.runaway.ended(&sight, ending, self.now).began);
        None
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = until.min(self.now + Duration::from_secs(1));
            self.over.extend(self.runaway.tick(self.now));
        }
    }

    fn assert_nobody_ran_away(&self) {
        assert_eq!((&self.began[..], self.detained.len()), (&[][..], 0));
    }

    /// A loop without a pause for so long, that sends what `next` says.
    fn hammer(&mut self, seconds: u64, next: impl Fn(u64) -> (Option<u64>, Option<u64>), ending: Ending) {
        for n in 0..seconds * 20 {
            self.send(CALLER, next(n), ending);
            self.wait(millis(49));
        }
    }
}

#[test]
fn each_loop_is_told_by_its_cause() {
    type Loop = (RunawayCause, fn(u64) -> (Option<u64>, Option<u64>), Ending);
    let loops: [Loop; 7] = [
        (RunawayCause::Repeated, |n| (Some(n), Some(1)), Ending::Answered),
        (RunawayCause::Repeated, |_| (None, Some(1)), Ending::Answered),
        (RunawayCause::Replayed, |_| (Some(1), Some(1)), Ending::Replayed),
        (RunawayCause::Early, |_| (Some(1), None), Ending::Wait(millis(2000))),
        (RunawayCause::FinalError, |_| (Some(1), Some(1)), Ending::FinalError),
        (RunawayCause::FinalError, |n| (Some(n), Some(1)), Ending::FinalError),
        (RunawayCause::FinalError, |_| (Some(1), None), Ending::FinalError),
    ];
    for (cause, next, ending) in loops {
        let mut simulated = Simulated::new();
        simulated.hammer(600, next, ending);
        assert_eq!(simulated.began, [cause], "it never stops, so it is one episode");
        assert!(simulated.over.is_empty(), "{cause:?}");
        // As many as the limit lets pass at once; then fewer and fewer, and one each minute in the end.
        assert!(simulated.passed < 160, "{cause:?}: {} of 12,000 passed", simulated.passed);
        let longest = simulated.detained.iter().map(|one| one.retry_in).max().unwrap();
        assert!(longest > Duration::from_secs(59), "{longest:?}");
        assert!(
            simulated.detained.iter().all(|one| one.cause == cause && one.retry_in <= SETTINGS.longest_wait)
        );
    }
}

#[test]
fn waits_double_and_a_minute_of_silence_takes_all_back() {
    let mut simulated = Simulated::new();
    let mut waits = Vec::new();
    // It waits as it is told, and then begins again at once.
    while waits.len() < 9 {
        if let Some(wait) = simulated.send(CALLER, (Some(1), Some(1)), Ending::FinalError) {
            waits.push(wait.as_millis().div_ceil(1000));
            simulated.wait(wait);
        }
    }
    // Whoever waits as it is told is forgiven a little meanwhile: this is less often than the limit.
    assert_eq!(waits, [1, 2, 4, 8, 8, 8, 8, 8, 8]);
    assert!(simulated.runaway.strikes(CALLER, simulated.now) > 0);
    simulated.wait(Duration::from_mins(1));
    assert_eq!(simulated.runaway.strikes(CALLER, simulated.now), 0);
    let [over] = simulated.over[..] else { panic!("{:?}", simulated.over) };
    assert_eq!((over.cause, over.caller, over.refused), (RunawayCause::FinalError, CALLER, 9));
    assert_eq!(simulated.send(CALLER, (Some(1), Some(1)), Ending::FinalError), None, "it begins anew");
}

#[test]
fn a_loop_under_one_name_costs_no_other_request_of_its_caller() {
    let mut simulated = Simulated::new();
    for n in 0..2000 {
        simulated.send(CALLER, (Some(1), Some(1)), Ending::Replayed);
        assert_eq!(simulated.send(CALLER, (Some(n + 10), Some(n + 10)), Ending::Answered), None);
        simulated.wait(millis(48));
    }
    assert_eq!(simulated.began, [RunawayCause::Replayed]);
}

#[test]
fn one_phone_that_loops_under_new_names_stops_neither_others_elsewhere_nor_a_crowd_beside_it() {
    let mut simulated = Simulated::new();
    for n in 0..2000 {
        simulated.send(CALLER, (Some(n), Some(1)), Ending::Answered);
        for other in 1..4 {
            let image = Some(1_000_000 * other + n);
            assert_eq!(simulated.send(CALLER, (image, image), Ending::Answered), None, "beside it");
        }
        assert_eq!(simulated.send(CALLER + 1, (Some(n), Some(n)), Ending::Answered), None, "elsewhere");
        simulated.wait(millis(40));
    }
    simulated.assert_nobody_ran_away();
}

#[test]
fn what_was_on_its_way_together_is_one_offence_no_strike_for_each() {
    let mut runaway = Runaway::new(SETTINGS);
    let sight = |name, at| Sight { caller: CALLER, name: Some(name), content: Some(1), arrived: millis(at) };
    // Two hundred at once, which end one after the other.
    for n in 0..200 {
        assert_eq!(runaway.ended(&sight(n, 1), Ending::Answered, millis(2 + n)).began, None);
    }
    // Two hundred more, all sent after an answer.
    let began =
        (0..200).filter_map(|n| runaway.ended(&sight(n + 200, 300), Ending::Answered, millis(301 + n)).began);
    assert_eq!(began.collect::<Vec<_>>(), [RunawayCause::Repeated]);
    assert_eq!(runaway.strikes(CALLER, millis(600)), 1);
    assert_eq!(runaway.detains(&sight(999, 600)).map(|detained| detained.strikes), Some(1));
}

#[test]
fn several_loops_whose_requests_were_on_their_way_together_earn_one_strike() {
    let mut runaway = Runaway::new(SETTINGS);
    let sight = |name, at| Sight { caller: CALLER, name: Some(name), content: None, arrived: millis(at) };
    for round in 0..=20 {
        for name in 0..8 {
            runaway.ended(&sight(name, 10 * round + 1), Ending::FinalError, millis(10 * round + 2));
        }
    }
    assert_eq!(runaway.strikes(CALLER, millis(300)), 0, "each as often as it may");
    for name in 0..8 {
        runaway.ended(&sight(name, 301), Ending::FinalError, millis(302 + name));
    }
    assert_eq!(runaway.strikes(CALLER, millis(400)), 1);
}

#[test]
fn memory_is_bounded_and_what_loops_is_not_pushed_out() {
    let mut simulated = Simulated::new();
    for n in 0..10_000 {
        simulated.send(CALLER, (Some(1), Some(1)), Ending::FinalError);
        simulated.send(CALLER, (Some(n + 10), Some(n + 10)), Ending::Answered);
        simulated.send(100 + n, (Some(1), Some(1)), Ending::FinalError);
        simulated.now += millis(1);
    }
    assert_eq!(simulated.began, [RunawayCause::FinalError]);
    assert!(simulated.runaway.callers.len() <= MOST_CALLERS);
    simulated.wait(Duration::from_mins(3));
    assert_eq!(simulated.runaway.callers.len(), 0);
    assert_eq!(simulated.over.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A library that retries with back-off under one key, up to ten times, and heeds `Retry-After`.
    #[test]
    fn honest_retries_are_never_struck(
        ends in prop::collection::vec(prop::collection::vec((0u8..4, 0u64..4000), 1..10), 1..40),
        pause in 100u64..2000,
    ) {
        let mut simulated = Simulated::new();
        for (name, tries) in (1..).zip(ends) {
            for (attempt, (end, wait)) in (0u32..).zip(tries) {
                let ending = [
                    Ending::Wait(millis(wait)), Ending::Other, Ending::Replayed, Ending::Answered,
                ][usize::from(end)];
                prop_assert_eq!(simulated.send(CALLER, (Some(name), Some(name)), ending), None);
                let back_off = millis(pause * 2u64.pow(attempt.min(6)));
                simulated.wait(if let Ending::Wait(wait) = ending { wait.max(back_off) } else { back_off });
            }
        }
        simulated.assert_nobody_ran_away();
    }

    /// Many images, each once, at any pace and in whatever way they end.
    #[test]
    fn batches_and_crowds_are_never_struck(
        ends in prop::collection::vec((0u8..5, 0u64..20), 1..3000),
        callers in 1u64..2000,
    ) {
        let mut simulated = Simulated::new();
        for (image, (end, pause)) in (0u64..).zip(ends) {
            let ending = [
                Ending::Answered, Ending::FinalError, Ending::Wait(millis(1000)), Ending::Other, Ending::Replayed,
            ][usize::from(end)];
            let sent = simulated.send(image % callers, (Some(image), Some(image)), ending);
            prop_assert_eq!(sent, None);
            simulated.wait(millis(pause));
        }
        simulated.assert_nobody_ran_away();
    }

    /// Whatever anybody does: waits are bounded, whoever waits as long as it was told is let in, and each beginning has one end.
    #[test]
    fn waits_are_bounded_and_enough(
        steps in prop::collection::vec((0u64..3, 0u64..4, 0u8..5, 0u64..300, any::<bool>()), 1..4000),
    ) {
        let mut simulated = Simulated::new();
        for (caller, what, end, pause, obeys) in steps {
            let ending = [
                Ending::Answered, Ending::FinalError, Ending::Wait(millis(700)), Ending::Other, Ending::Replayed,
            ][usize::from(end)];
            let name = (what > 0).then_some(what);
            if let Some(wait) = simulated.send(caller, (name, Some(what)), ending) {
                prop_assert!(wait <= SETTINGS.longest_wait);
                if obeys {
                    simulated.wait(wait);
                    prop_assert_eq!(simulated.send(caller, (name, Some(what)), Ending::Other), None);
                }
            }
            simulated.wait(millis(pause));
        }
        simulated.wait(Duration::from_mins(3));
        prop_assert_eq!(simulated.began.len(), simulated.over.len());
        let refused: u64 = simulated.over.iter().map(|episode| episode.refused).sum();
        prop_assert_eq!(refused, simulated.detained.len() as u64);
        prop_assert_eq!(simulated.runaway.callers.len(), 0);
    }
}
