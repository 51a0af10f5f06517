//! What follows from an attempt to deliver: pure, the time and the chance passed in.
//!
//! Pauses are those of Standard Webhooks 1.0, each a fifth longer or shorter, so that what failed together does not come
//! back together.

use eyebolt_store::{DeliveryState, Endpoint, EndpointState};
use jiff::{SignedDuration, Timestamp};

/// Before the second attempt, and each one after it: ten in all, within 75 hours and a half.
const PAUSES: [SignedDuration; 9] = [
    SignedDuration::from_secs(5),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(30),
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(5),
    SignedDuration::from_hours(10),
    SignedDuration::from_hours(14),
    SignedDuration::from_hours(20),
    SignedDuration::from_hours(24),
];

/// All pauses at their longest: no event may be forgotten before.
pub(super) const LONGEST: SignedDuration = SignedDuration::from_hours(92);

/// How long a receiver is left alone that says it has too much to do and does not say for how long.
const THROTTLE: SignedDuration = SignedDuration::from_secs(10);

/// No receiver is left alone for longer, whatever it says.
const LONGEST_THROTTLE: SignedDuration = SignedDuration::from_hours(24);

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// None.
    NoAnswer,
    /// There is nothing to be sent any more.
    Forgotten,
}

/// How an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) state: EndpointState,
    pub(super) disabled_at: Option<Timestamp>,
    pub(super) failing_since: Option<Timestamp>,
    pub(super) throttled_until: Option<Timestamp>,
}

impl Health {
    /// As its row says.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        Self {
            state: endpoint.state,
            disabled_at: endpoint.disabled_at,
            failing_since: endpoint.failing_since,
            throttled_until: endpoint.throttled_until,
        }
    }
}

/// When an endpoint is tried again, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// After so long without one that was taken; `None`: never, as it stands for many addresses.
    pub(super) disable_after: Option<SignedDuration>,
    /// No pause between two attempts is longer, but where the receiver wants one.
    pub(super) longest_pause: SignedDuration,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: DeliveryState,
    pub(super) next_at: Option<Timestamp>,
    pub(super) health: Health,
}

/// Judges an attempt. `attempts`: those before it. `chance`: 0 to 1.
pub(super) fn judge(
    outcome: Outcome,
    (attempts, health): (u32, Health),
    rules: Rules,
    (now, chance): (Timestamp, f64),
) -> Verdict {
    let health = judge_endpoint(outcome, health, (rules, now));
    let over = |state| Verdict { state, next_at: None, health };
    match outcome {
        Outcome::Answer { status: 200..=299, .. } => return over(DeliveryState::Delivered),
        Outcome::Answer { status: 410, .. } | Outcome::Forgotten => return over(DeliveryState::Failed),
        _ if health.state != EndpointState::Enabled => return over(DeliveryState::Failed),
        _ => {}
    }
    let Some(pause) = PAUSES.get(attempts as usize) else { return over(DeliveryState::Failed) };
    let pause = pause.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0)).min(rules.longest_pause);
    let wanted = match outcome {
        Outcome::Answer { retry_after: Some(wanted), .. } => wanted.min(LONGEST_THROTTLE),
        _ => SignedDuration::ZERO,
    };
    Verdict { state: DeliveryState::Pending, next_at: Some(now + pause.max(wanted)), health }
}

fn judge_endpoint(outcome: Outcome, mut health: Health, (rules, now): (Rules, Timestamp)) -> Health {
    if health.state != EndpointState::Enabled {
        return health;
    }
    let status = match outcome {
        Outcome::Forgotten => return health,
        Outcome::NoAnswer => 0,
        Outcome::Answer { status, .. } => status,
    };
    if (200..300).contains(&status) {
        (health.failing_since, health.throttled_until) = (None, None);
        return health;
    }
    let failing_since = *health.failing_since.get_or_insert(now);
    if let (429 | 502 | 503 | 504, Outcome::Answer { retry_after, .. }) = (status, outcome) {
        let until = now + retry_after.unwrap_or(THROTTLE).min(LONGEST_THROTTLE);
        health.throttled_until = health.throttled_until.max(Some(until));
    }
    let Some(disable_after) = rules.disable_after else { return health };
    if status == 410 {
        health.state = EndpointState::Gone;
    } else if now.duration_since(failing_since) >= disable_after {
        health.state = EndpointState::Failing;
    }
    if health.state != EndpointState::Enabled {
        health.disabled_at = Some(now);
    }
    health
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAYS: SignedDuration = SignedDuration::from_hours(120);
    const RULES: Rules = Rules { disable_after: Some(DAYS), longest_pause: SignedDuration::MAX };

    fn healthy() -> Health {
        Health {
            state: EndpointState::Enabled,
            disabled_at: None,
            failing_since: None,
            throttled_until: None,
        }
    }

    fn answer(status: u16) -> Outcome {
        Outcome::Answer { status, retry_after: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Tries until it is over; how often, and how long that took.
    fn run(outcome: Outcome, chance: f64) -> (u32, SignedDuration) {
        let (mut now, mut attempts, mut health) = (at(0), 0, healthy());
        loop {
            let verdict = judge(outcome, (attempts, health), RULES, (now, chance));
            attempts += 1;
            health = verdict.health;
            let Some(next) = verdict.next_at else { return (attempts, now.duration_since(at(0))) };
            now = next;
        }
    }

    #[test]
    fn ten_attempts_within_75_hours_and_a_half_give_or_take_a_fifth() {
        let exact = SignedDuration::from_hours(75) + SignedDuration::from_secs(35 * 60 + 5);
        for (outcome, chance, factor) in
            [(answer(500), 0.5, 1.0), (Outcome::NoAnswer, 0.0, 0.8), (answer(500), 1.0, 1.2)]
        {
            let (attempts, took) = run(outcome, chance);
            assert_eq!(
                (attempts, took.as_secs_f64().round() as i64),
                (10, exact.mul_f64(factor).as_secs_f64().round() as i64),
                "{chance}"
            );
        }
        assert!(exact.mul_f64(1.2) < LONGEST);
    }

    #[test]
    fn no_pause_is_longer_than_the_rules_let_it_be_unless_the_receiver_wants_it() {
        let rules = Rules { longest_pause: SignedDuration::from_secs(1), ..RULES };
        for attempts in 0..9 {
            let verdict = judge(answer(500), (attempts, healthy()), rules, (at(0), 1.0));
            assert_eq!(verdict.next_at, Some(at(1)), "{attempts}");
        }
        let later = Outcome::Answer { status: 503, retry_after: Some(SignedDuration::from_secs(7)) };
        assert_eq!(judge(later, (0, healthy()), rules, (at(0), 0.0)).next_at, Some(at(7)));
    }

    #[test]
    fn only_2xx_is_taken_and_a_redirect_is_not() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(run(answer(status), 0.5), (1, SignedDuration::ZERO), "{status}");
        }
        for status in [199, 301, 302, 307, 308, 400, 401, 404, 500] {
            assert_eq!(run(answer(status), 0.5).0, 10, "{status}");
        }
    }

    #[test]
    fn who_has_too_much_to_do_is_left_alone_as_long_as_he_says() {
        for status in [429, 502, 503, 504] {
            let hour = Outcome::Answer { status, retry_after: Some(SignedDuration::from_hours(1)) };
            let verdict = judge(hour, (0, healthy()), RULES, (at(0), 0.5));
            assert_eq!(verdict.next_at, Some(at(3600)), "{status}");
            assert_eq!(verdict.health.throttled_until, Some(at(3600)), "{status}");
            let unsaid = judge(answer(status), (0, healthy()), RULES, (at(0), 0.5));
            assert_eq!(unsaid.health.throttled_until, Some(at(10)), "{status}");
        }
        let year = SignedDuration::from_hours(24 * 365);
        let year = Outcome::Answer { status: 503, retry_after: Some(year) };
        assert_eq!(judge(year, (0, healthy()), RULES, (at(0), 0.5)).next_at, Some(at(86400)));
        // A single message that is refused says nothing about the receiver.
        let refused = judge(answer(500), (0, healthy()), RULES, (at(0), 0.5));
        assert_eq!(refused.health.throttled_until, None);
    }

    #[test]
    fn gone_is_the_end_of_an_endpoint_and_not_of_a_host() {
        let verdict = judge(answer(410), (0, healthy()), RULES, (at(5), 0.5));
        assert_eq!(verdict.state, DeliveryState::Failed);
        assert_eq!((verdict.health.state, verdict.health.disabled_at), (EndpointState::Gone, Some(at(5))));
        let many = judge(answer(410), (0, healthy()), Rules { disable_after: None, ..RULES }, (at(5), 0.5));
        assert_eq!((many.state, many.health.state), (DeliveryState::Failed, EndpointState::Enabled));
    }

    #[test]
    fn five_days_of_failures_disable_and_one_success_begins_them_anew() {
        let mut health = healthy();
        let mut step = |outcome, seconds| {
            let verdict = judge(outcome, (0, health), RULES, (at(seconds), 0.5));
            health = verdict.health;
            health.state
        };
        let day = 86400;
        assert_eq!(step(Outcome::NoAnswer, 0), EndpointState::Enabled);
        assert_eq!(step(answer(500), 4 * day), EndpointState::Enabled);
        assert_eq!(step(answer(200), 4 * day + 1), EndpointState::Enabled);
        assert_eq!(step(answer(500), 4 * day + 2), EndpointState::Enabled);
        assert_eq!(step(answer(500), 9 * day + 1), EndpointState::Enabled);
        assert_eq!(step(answer(500), 9 * day + 2), EndpointState::Failing);
    }

    #[test]
    fn what_is_no_longer_kept_is_over_and_nobody_is_blamed() {
        let verdict = judge(Outcome::Forgotten, (3, healthy()), RULES, (at(0), 0.5));
        assert_eq!((verdict.state, verdict.health), (DeliveryState::Failed, healthy()));
    }

    proptest! {
        #[test]
        fn a_delivery_is_pending_exactly_while_it_has_a_time_and_that_time_is_later(
            status in 100_u16..600, attempts in 0_u32..20, chance in 0.0..=1.0_f64,
            retry_after in proptest::option::of(0_i64..10_000_000),
        ) {
            let retry_after = retry_after.map(SignedDuration::from_secs);
            let outcome = Outcome::Answer { status, retry_after };
            let verdict = judge(outcome, (attempts, healthy()), RULES, (at(0), chance));
            prop_assert_eq!(verdict.state == DeliveryState::Pending, verdict.next_at.is_some());
            prop_assert!(verdict.next_at.is_none_or(|next| next > at(0)));
            prop_assert!(verdict.next_at.is_none_or(|next| next <= at(0) + SignedDuration::from_hours(29)));
        }
    }
}
