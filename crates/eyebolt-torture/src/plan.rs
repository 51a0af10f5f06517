//! Pipelines that clients send: things, something on each of them, and what needs all of these.

use std::fmt::Write;

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a pipeline is, and what fails in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Things in the image.
    pub(crate) parts: u32,
    /// What becomes of a step or part that fails for good.
    pub(crate) on_error: OnError,
    /// Attempts at each, where they fail.
    pub(crate) attempts: u32,
    /// What fails.
    pub(crate) poison: Option<Poison>,
}

/// What the pipeline says of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnError {
    Fail,
    Skip,
    Fallback,
}

/// A step or a part that fails at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Poison {
    /// As the journal of executions names it: `step` or `step/part`.
    pub(crate) place: String,
    /// It fails under the lease's fencing tokens up to this one.
    pub(crate) until: u32,
}

/// The step that finds the things.
pub(crate) const FIND: &str = "find";
/// The step that is done on each of them.
pub(crate) const EACH: &str = "read";
/// The step that needs all of these.
pub(crate) const JOIN: &str = "codes";
/// The step that needs nothing.
pub(crate) const ALONE: &str = "look";

const FEWEST: u32 = 2;
/// What the fake backend finds at most.
const MOST: u32 = 9;
/// More tokens than any job sees.
const FOR_EVER: u32 = 1_000_000;

impl Plan {
    /// Two in three have something that fails.
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let parts = rng.random_range(FEWEST..=MOST);
        let kinds = [OnError::Fail, OnError::Skip, OnError::Skip, OnError::Fallback];
        let on_error = *kinds.choose(rng).expect("there are four");
        let place = match rng.random_range(0..5) {
            0 => ALONE.to_owned(),
            _ => format!("{EACH}/{}", rng.random_range(0..parts)),
        };
        let until = match on_error {
            // The job would never succeed.
            OnError::Fail => rng.random_range(1..=2),
            OnError::Skip | OnError::Fallback => *[1, 2, FOR_EVER].choose(rng).expect("there are three"),
        };
        let poison = (rng.random_range(0..3) > 0).then_some(Poison { place, until });
        let attempts = *[1, 1, 2].choose(rng).expect("there are three");
        Self { parts, on_error, attempts, poison }
    }

    /// What the file says of it.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("parts={}", self.parts);
        if let Some(Poison { place, until }) = &self.poison {
            write!(words, " poison={place}:{until}").expect("strings take everything");
        }
        words
    }

    /// As it is sent.
    pub(crate) fn pipeline(&self) -> Value {
        let mut each = json!({"id": EACH, "feature": "text", "for_each": {"step": FIND, "max_items": MOST}});
        let mut alone = json!({"id": ALONE, "feature": "labels"});
        for step in [&mut each, &mut alone] {
            (step["on_error"], step["max_attempts"]) = (json!(self.on_error), json!(self.attempts));
            if self.on_error == OnError::Fallback {
                step["fallback"] = json!({"feature": "quality"});
            }
        }
        let join = json!({"id": JOIN, "feature": "barcodes", "needs": [EACH]});
        json!({"steps": [{"id": FIND, "feature": "objects"}, each, join, alone]})
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn plans_have_every_kind_of_failure_and_what_must_not_fail_for_ever_does_not() {
        let mut rng = StdRng::seed_from_u64(7);
        let drawn: Vec<_> = (0..300).map(|_| Plan::draw(&mut rng)).collect();
        for on_error in [OnError::Fail, OnError::Skip, OnError::Fallback] {
            let of_kind = drawn.iter().filter(|plan| plan.on_error == on_error);
            let poisons: Vec<_> = of_kind.filter_map(|plan| plan.poison.as_ref()).collect();
            assert!(poisons.iter().any(|poison| poison.place == ALONE), "{on_error:?}");
            assert!(poisons.iter().any(|poison| poison.place.starts_with("read/")), "{on_error:?}");
            let for_ever = poisons.iter().any(|poison| poison.until == FOR_EVER);
            assert_eq!(for_ever, on_error != OnError::Fail, "{on_error:?}");
        }
        assert!(drawn.iter().any(|plan| plan.poison.is_none()));
    }

    #[test]
    fn a_plan_is_sent_as_a_pipeline_and_told_to_the_fake_backend() {
        let poison = Some(Poison { place: "read/3".to_owned(), until: 2 });
        let plan = Plan { parts: 6, on_error: OnError::Skip, attempts: 1, poison };
        assert_eq!(plan.words(), "parts=6 poison=read/3:2");
        let sent = plan.pipeline();
        assert_eq!(sent["steps"][1]["on_error"], "skip");
        assert_eq!(sent["steps"][2]["needs"], json!(["read"]));
        assert!(sent["steps"][1].get("fallback").is_none());
    }
}
