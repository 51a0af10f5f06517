//! What is done to the servers, and in which order.

use std::collections::VecDeque;

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};

/// Something to be done to a server or a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Card {
    /// SIGKILL.
    Kill,
    /// SIGKILL while it starts.
    EarlyKill,
    /// A start with a failpoint armed.
    Failpoint(Failpoint),
    /// SIGSTOP for half a lease.
    ShortStop,
    /// SIGSTOP for two leases.
    LongStop,
    /// A client forgets everything but its journal.
    ClientCrash,
}

/// A named place in the server that kills or stops it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failpoint {
    pub(crate) place: &'static str,
    pub(crate) action: &'static str,
    /// How often it was drawn and not reached.
    pub(crate) missed: u32,
}

/// Places in the server, in the order in which a request passes them.
pub(crate) const PLACES: [&str; 23] = [
    "after_blob",
    "after_accept",
    "after_claim",
    "after_step_commit",
    "before_fan_out",
    "after_fan_out",
    "before_advance",
    "after_advance",
    "before_close",
    "after_close",
    "after_retry",
    "before_answer",
    "before_delivery",
    "before_delivery_settled",
    "after_stage",
    "after_accept_batch",
    "after_feed",
    "after_join",
    "before_close_batch",
    "after_close_batch",
    "after_retry_batch",
    "in_sweep",
    "in_removal",
];
/// Where a stop makes a worker that holds an old lease.
const STOPS: [&str; 5] =
    ["after_claim", "after_step_commit", "before_advance", "before_close", "before_delivery_settled"];
/// Places that are passed once in some seconds, or once a second.
const RARE: [&str; 7] = [
    "in_sweep",
    "in_removal",
    "after_retry",
    "after_accept_batch",
    "before_close_batch",
    "after_close_batch",
    "after_retry_batch",
];
const SELDOM: [&str; 4] = ["after_blob", "after_stage", "before_fan_out", "after_fan_out"];
/// A failpoint is drawn again so often.
const TRIES: u32 = 3;

/// Cards in a seeded order: first each kind as often as a run needs it, then for ever anything.
pub(crate) struct Deck {
    cards: VecDeque<Card>,
    rng: StdRng,
}

impl Failpoint {
    fn card(place: &'static str, action: &'static str) -> Card {
        Card::Failpoint(Self { place, action, missed: 0 })
    }

    /// As the server reads it, for the `n`-th passing.
    pub(crate) fn armed(&self, rng: &mut StdRng) -> String {
        // A place that was missed is armed for its first passing.
        let last = match self.place {
            _ if self.missed > 0 => 1,
            place if RARE.contains(&place) => 2,
            place if SELDOM.contains(&place) => 4,
            _ => 16,
        };
        format!("{}:{}:{}", self.place, rng.random_range(1..=last), self.action)
    }
}

impl Deck {
    pub(crate) fn new(mut rng: StdRng) -> Self {
        let mut cards = first();
        cards.shuffle(&mut rng);
        Self { cards: cards.into(), rng }
    }

    pub(crate) fn draw(&mut self) -> Card {
        if self.cards.is_empty() {
            let mut cards = first();
            cards.shuffle(&mut self.rng);
            self.cards.extend(cards);
        }
        self.cards.pop_front().expect("it was filled")
    }

    /// Puts a failpoint that was not reached back, to be drawn soon, unless that was tried often.
    pub(crate) fn again(&mut self, failpoint: &Failpoint) {
        let missed = failpoint.missed + 1;
        if missed < TRIES {
            let place = self.cards.len().min(2);
            self.cards.insert(place, Card::Failpoint(Failpoint { missed, ..failpoint.clone() }));
        }
    }
}

fn first() -> Vec<Card> {
    let mut cards: Vec<Card> = PLACES.iter().map(|place| Failpoint::card(place, "kill")).collect();
    cards.extend(STOPS.iter().map(|place| Failpoint::card(place, "stop")));
    for (card, count) in [
        (Card::Kill, 2),
        (Card::EarlyKill, 2),
        (Card::ShortStop, 1),
        (Card::LongStop, 2),
        (Card::ClientCrash, 3),
    ] {
        cards.extend(std::iter::repeat_n(card, count));
    }
    cards
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_order_and_every_place_is_in_it() {
        let draw = |seed| {
            let mut deck = Deck::new(StdRng::seed_from_u64(seed));
            (0..first().len()).map(|_| deck.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        for place in PLACES {
            assert!(draw(3).contains(&Failpoint::card(place, "kill")), "{place} is missing");
        }
    }

    #[test]
    fn a_failpoint_that_was_missed_comes_again_at_its_first_passing_but_not_for_ever() {
        let mut deck = Deck::new(StdRng::seed_from_u64(3));
        let missed = |missed| Failpoint { place: "after_blob", action: "kill", missed };
        deck.again(&missed(0));
        let drawn: Vec<Card> = (0..3).map(|_| deck.draw()).collect();
        assert!(drawn.contains(&Card::Failpoint(missed(1))), "{drawn:?}");
        assert_eq!(missed(1).armed(&mut StdRng::seed_from_u64(3)), "after_blob:1:kill");
        let before = deck.cards.len();
        deck.again(&missed(TRIES - 1));
        assert_eq!(deck.cards.len(), before);
    }
}
