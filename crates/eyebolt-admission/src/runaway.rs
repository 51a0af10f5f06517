//! Clients that run away: loops that send the same thing again and again and learn nothing from the answers.
//!
//! What a request is known by is told by the caller of this module: its *name* before the body is read, and its *content* after
//! it. Only what is known to be the same request counts, so that neither many images nor many phones look like a loop. For each
//! cause a bucket counts that leaks as fast as the limit allows; one that is full is a strike, and each strike doubles the wait.

mod bucket;
mod caller;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use self::caller::Caller;

/// Callers that are remembered. Further ones go unseen until others have been quiet for a minute.
const MOST_CALLERS: usize = 10_000;

/// How much of each is taken for a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunawayLimits {
    /// Times a minute that a request may come under new names after it was answered.
    pub repeats: u32,
    /// Times a minute that a name may come again after it was answered, or while its request is under way.
    pub replays: u32,
    /// Times a minute that a name may come again before it was told to.
    pub early: u32,
    /// Times a minute that a request may come again after it was told that it can't succeed.
    pub final_errors: u32,
    /// No wait is longer.
    pub longest_wait: Duration,
}

/// What a client does that runs away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunawayCause {
    /// It sends what was answered again, under new names.
    Repeated,
    /// It sends what was answered again, under the same name.
    Replayed,
    /// It comes back before it was told to.
    Early,
    /// It sends what can't succeed again.
    FinalError,
}

impl RunawayCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Repeated, Self::Replayed, Self::Early, Self::FinalError];

    /// Its name in logs, rows and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Replayed => "replayed",
            Self::Early => "early",
            Self::FinalError => "final_error",
        }
    }
}

/// A request as it was seen. Digests: equal where the things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Who sent it: key and address, say.
    pub caller: u64,
    /// What tells it from others before its body is read, such as its idempotency key.
    pub name: Option<u64>,
    /// What is asked of which image; none where the body was not read to its end.
    pub content: Option<u64>,
    /// When its headers were there.
    pub arrived: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered, for the first time.
    Answered,
    /// Its name was known: it got the answer of an earlier request, or is waiting for it.
    Replayed,
    /// It was told that it can't succeed, whenever it comes.
    FinalError,
    /// It was refused, and told to come back after so long.
    Wait(Duration),
    /// Anything else says nothing of the client.
    Other,
}

/// Somebody has to wait before anything of a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detained {
    /// What for.
    pub cause: RunawayCause,
    /// For how long.
    pub retry_in: Duration,
    /// How many strikes there are.
    pub strikes: u8,
    /// How often the request had come again when it was struck last.
    pub times: u64,
}

/// What a request told about its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    /// It came back before it was told to.
    pub early: bool,
    /// It was told before that it can't succeed.
    pub final_again: bool,
    /// Its caller runs away from now on.
    pub began: Option<RunawayCause>,
}

/// A time in which a caller ran away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Episode {
    /// Who.
    pub caller: u64,
    /// What began it.
    pub cause: RunawayCause,
    /// When.
    pub since: Duration,
    /// Strikes so far; those that were forgiven count.
    pub strikes: u64,
    /// How often the request that was struck last had come again by then.
    pub times: u64,
    /// Requests that were refused for it, or would have been.
    pub refused: u64,
}

/// All callers. After a request is authenticated, [`Runaway::detains`] says whether it has to wait; after each end
/// [`Runaway::ended`] learns of it.
#[derive(Debug)]
pub struct Runaway {
    settings: RunawayLimits,
    callers: HashMap<u64, Caller>,
}

impl Runaway {
    /// Nobody runs away.
    pub fn new(settings: RunawayLimits) -> Self {
        Self { settings, callers: HashMap::new() }
    }

    /// Whether this request has to wait, before anything of its body is read. Whoever is known by name waits alone; the others
    /// of its caller wait only where the loop sends new names.
    pub fn detains(&mut self, sight: &Sight) -> Option<Detained> {
        self.callers.get_mut(&sight.caller)?.detains(sight)
    }

    /// A request has ended. One that was detained says nothing new, and need not be told of.
    pub fn ended(&mut self, sight: &Sight, ending: Ending, now: Duration) -> Noticed {
        let full = self.callers.len() >= MOST_CALLERS;
        let caller = match self.callers.entry(sight.caller) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => return Noticed::default(),
            Entry::Vacant(new) => new.insert(Caller::default()),
        };
        caller.ended(sight, (ending, now), self.settings)
    }

    /// Whose time is over, and forgets who was quiet. To be called every few seconds.
    pub fn tick(&mut self, now: Duration) -> Vec<Episode> {
        let mut over = Vec::new();
        self.callers.retain(|_, caller| {
            over.extend(caller.over(now));
            !caller.is_quiet(now)
        });
        over
    }

    /// Who runs away now.
    pub fn episodes(&self) -> impl Iterator<Item = Episode> {
        self.callers.values().filter_map(|caller| caller.episode)
    }

    /// How many strikes a caller has.
    pub fn strikes(&self, caller: u64, now: Duration) -> u8 {
        self.callers.get(&caller).map_or(0, |caller| caller.strikes(now))
    }
}
