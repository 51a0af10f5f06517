//! What follows from an attempt for its delivery and its endpoint, as that stands when it is written down: pure.

use eyebolt_store::{Endpoint, EndpointKind, Settlement};
use jiff::Timestamp;

use super::schedule::{self, Health, Outcome, Rules};

/// An attempt that is over.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// Where the message was sent.
    pub(super) url: String,
    pub(super) outcome: Outcome,
    /// Those before it.
    pub(super) attempts: u32,
    pub(super) rules: Rules,
    /// When it was over.
    pub(super) at: Timestamp,
    /// 0 to 1.
    pub(super) chance: f64,
}

impl Tried {
    /// What follows. The endpoint may have been changed or switched off while the message was on its way: what the project said
    /// then holds.
    pub(super) fn settle(&self, endpoint: Endpoint) -> Settlement {
        let was = Health::of(&endpoint);
        let moved = endpoint.kind == EndpointKind::Own && endpoint.url != self.url;
        let outcome = match self.outcome {
            // That was another receiver: the message is for the one that is there now.
            Outcome::Answer { status, .. } if moved && !(200..300).contains(&status) => Outcome::NoAnswer,
            other => other,
        };
        let verdict = schedule::judge(outcome, (self.attempts, was), self.rules, (self.at, self.chance));
        let health = if moved { was } else { verdict.health };
        let Health { state, disabled_at, failing_since, throttled_until } = health;
        let endpoint = Endpoint { state, disabled_at, failing_since, throttled_until, ..endpoint };
        Settlement { state: verdict.state, next_at: verdict.next_at, endpoint }
    }
}

#[cfg(test)]
mod tests {
    use eyebolt_store::{DeliveryState, EndpointState};
    use eyebolt_types::{
        Mode,
        id::{EndpointId, ProjectId},
    };
    use jiff::SignedDuration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn tried(status: u16) -> Tried {
        let rules =
            Rules { disable_after: Some(SignedDuration::from_hours(1)), longest_pause: SignedDuration::MAX };
        let outcome = Outcome::Answer { status, retry_after: Some(SignedDuration::from_hours(2)) };
        Tried { url: "https://a/".to_owned(), outcome, attempts: 0, rules, at: at(0), chance: 0.5 }
    }

    fn endpoint(url: &str) -> Endpoint {
        Endpoint {
            id: EndpointId::new(),
            project: ProjectId::new(),
            mode: Mode::Live,
            kind: EndpointKind::Own,
            url: url.to_owned(),
            description: String::new(),
            events: None,
            signature: "v1".to_owned(),
            state: EndpointState::Enabled,
            disabled_at: None,
            failing_since: None,
            throttled_until: None,
            created_at: at(-99),
        }
    }

    #[test]
    fn what_the_project_switched_off_stays_off_as_it_said() {
        let off = Endpoint {
            state: EndpointState::Disabled,
            disabled_at: Some(at(-1)),
            failing_since: Some(at(-99_999)),
            ..endpoint("https://a/")
        };
        for status in [200, 410, 500, 503] {
            let settled = tried(status).settle(off.clone());
            assert_eq!((settled.endpoint, settled.next_at), (off.clone(), None), "{status}");
        }
    }

    #[test]
    fn what_the_old_address_says_is_nothing_to_the_new_one() {
        let moved = endpoint("https://b/");
        for status in [410, 500, 503] {
            let settled = tried(status).settle(moved.clone());
            assert_eq!((settled.state, &settled.endpoint), (DeliveryState::Pending, &moved), "{status}");
            assert_eq!(settled.next_at, Some(at(5)), "{status}: by the schedule");
        }
        assert_eq!(tried(200).settle(moved).state, DeliveryState::Delivered);
    }

    #[test]
    fn an_endpoint_of_requests_stands_for_many_addresses() {
        let host = Endpoint { kind: EndpointKind::Requests, ..endpoint("https://a") };
        assert_eq!(tried(503).settle(host).endpoint.throttled_until, Some(at(7200)));
    }
}
