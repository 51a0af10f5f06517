//! What is known of one caller.

use std::{cmp::Ordering, time::Duration};

use super::{
    Detained, Ending, Episode, Noticed, RunawayCause, RunawayLimits, Sight,
    bucket::{Bucket, Fading},
};

/// Most strikes that anybody can have.
const MOST: u8 = 8;

/// Good behaviour that takes one strike back: from the most to none in a minute.
const FORGIVEN_EVERY: Duration = Duration::from_millis(7500);

/// The wait after the first strike; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Requests that are remembered: a loop is short. What counted least, longest ago, makes room.
const MOST_REQUESTS: usize = 16;

/// So much of what a caller sends must be the same again, before all that it sends has to wait: hundreds of phones do not pay
/// for the one behind their address that loops.
const SHARE: f64 = 0.5;

/// Whoever was quiet for so long is forgotten.
const QUIET: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Caller {
    seen: Duration,
    requests: Vec<Tracked>,
    sent: Fading,
    repeated: Fading,
    strikes: u8,
    /// Of the last strike, of the last one that was forgiven, or of the last request that did not wait.
    since: Duration,
    struck: Duration,
    /// All of its requests wait until then.
    until: Duration,
    pub(super) episode: Option<Episode>,
}

/// A request that may come again.
#[derive(Debug)]
struct Tracked {
    cause: RunawayCause,
    /// Its name or its content, as the cause goes by.
    id: u64,
    /// What it was called last.
    name: Option<u64>,
    /// When it was answered first; of [`RunawayCause::Early`]: when it may come back.
    at: Duration,
    bucket: Bucket,
    /// How often it came again.
    times: u64,
    /// Whether it was struck: as long as strikes are left, each return of it is another one.
    struck: bool,
    /// What is called so waits until then.
    until: Duration,
}

/// What is a strike, and who waits for it.
#[derive(Debug, Clone, Copy)]
struct Offence {
    cause: RunawayCause,
    /// Where among the caller's requests.
    position: usize,
    /// Whether it comes under new names: then no single one can be refused beforehand.
    renamed: bool,
}

impl Caller {
    /// [`super::Runaway::detains`].
    pub(super) fn detains(&mut self, sight: &Sight) -> Option<Detained> {
        self.forgive(sight.arrived);
        let until = self.waits_until(sight.name);
        let retry_in = until.checked_sub(sight.arrived).filter(|wait| !wait.is_zero())?;
        self.since = sight.arrived;
        let strikes = self.strikes;
        let episode = self.episode.as_mut()?;
        episode.refused += 1;
        Some(Detained { cause: episode.cause, retry_in, strikes, times: episode.times })
    }

    /// [`super::Runaway::ended`].
    pub(super) fn ended(
        &mut self,
        sight: &Sight,
        (ending, now): (Ending, Duration),
        settings: RunawayLimits,
    ) -> Noticed {
        self.seen = now;
        self.forgive(now);
        self.sent.add(now);
        // Each strike before anything else is remembered: that may take the place of what was struck.
        let (early, offence) = self.comes_early(sight, settings);
        let began = offence.and_then(|offence| self.strike(offence, sight, (now, settings)));
        let again = self.comes_again(sight, (ending, now), settings);
        let final_again = matches!(again, Some((RunawayCause::FinalError, _)));
        let offence = again.and_then(|(_, offence)| offence);
        let began = began.or(offence.and_then(|offence| self.strike(offence, sight, (now, settings))));
        if let Ending::Wait(wait) = ending {
            self.told_to_wait(sight, now + wait);
        }
        Noticed { early, final_again, began }
    }

    /// What is over by now: [`super::Runaway::tick`].
    pub(super) fn over(&mut self, now: Duration) -> Option<Episode> {
        self.forgive(now);
        let over = self.strikes == 0 && !self.waits(now);
        if over { self.episode.take() } else { None }
    }

    /// Whether nothing need be remembered.
    pub(super) fn is_quiet(&self, now: Duration) -> bool {
        self.episode.is_none() && now.saturating_sub(self.seen) >= QUIET
    }

    /// How many strikes there are.
    pub(super) fn strikes(&self, now: Duration) -> u8 {
        self.strikes - self.forgiven(now)
    }

    /// Whether the name comes before it was told to, and whether it did so too often.
    fn comes_early(&mut self, sight: &Sight, settings: RunawayLimits) -> (bool, Option<Offence>) {
        let position = sight.name.and_then(|name| self.position((RunawayCause::Early, name)));
        let Some(position) = position else { return (false, None) };
        let (strikes, tracked) = (self.strikes, &mut self.requests[position]);
        if sight.arrived >= tracked.at {
            return (false, None);
        }
        let full = tracked.again(settings.early, (sight.arrived, strikes));
        (true, full.then_some(Offence { cause: RunawayCause::Early, position, renamed: false }))
    }

    /// Whether the request was answered before it came, by which cause, and whether that was too often.
    fn comes_again(
        &mut self,
        sight: &Sight,
        (ending, now): (Ending, Duration),
        settings: RunawayLimits,
    ) -> Option<(RunawayCause, Option<Offence>)> {
        let (cause, id, limit) = match ending {
            Ending::Answered => (RunawayCause::Repeated, sight.content?, settings.repeats),
            Ending::Replayed => (RunawayCause::Replayed, sight.name?, settings.replays),
            Ending::FinalError => {
                (RunawayCause::FinalError, sight.content.or(sight.name)?, settings.final_errors)
            }
            Ending::Wait(_) | Ending::Other => return None,
        };
        let Some(position) = self.position((cause, id)) else {
            self.track(Tracked::new((cause, id), sight.name, now));
            return None;
        };
        let strikes = self.strikes;
        let tracked = &mut self.requests[position];
        if sight.arrived <= tracked.at {
            // It was on its way when the first one was answered.
            return None;
        }
        let renamed = sight.name.is_none() || tracked.name != sight.name;
        tracked.name = sight.name;
        let full = tracked.again(limit, (now, strikes));
        if renamed {
            self.repeated.add(now);
        }
        let whole = !renamed || self.repeated.at(now) >= SHARE * self.sent.at(now);
        Some((cause, (full && whole).then_some(Offence { cause, position, renamed })))
    }

    fn told_to_wait(&mut self, sight: &Sight, until: Duration) {
        let Some(name) = sight.name else { return };
        match self.position((RunawayCause::Early, name)) {
            Some(position) => self.requests[position].at = until,
            None => self.track(Tracked::new((RunawayCause::Early, name), Some(name), until)),
        }
    }

    /// One more strike, unless the request came before the last one was known of.
    fn strike(
        &mut self,
        offence: Offence,
        sight: &Sight,
        (now, settings): (Duration, RunawayLimits),
    ) -> Option<RunawayCause> {
        let waits = sight.arrived < self.waits_until(sight.name);
        if waits || self.strikes > 0 && sight.arrived <= self.struck {
            return None;
        }
        self.strikes = (self.strikes + 1).min(MOST);
        (self.since, self.struck) = (now, now);
        let wait = FIRST_WAIT * 2u32.pow(u32::from(self.strikes) - 1);
        let until = now + wait.min(settings.longest_wait);
        let (cause, tracked) = (offence.cause, &mut self.requests[offence.position]);
        tracked.struck = true;
        *(if offence.renamed { &mut self.until } else { &mut tracked.until }) = until;
        let new = self.episode.is_none();
        let began = Episode { caller: sight.caller, cause, since: now, strikes: 0, times: 0, refused: 0 };
        let episode = self.episode.get_or_insert(began);
        episode.strikes += 1;
        episode.times = tracked.times;
        new.then_some(cause)
    }

    fn position(&self, (cause, id): (RunawayCause, u64)) -> Option<usize> {
        self.requests.iter().position(|tracked| (tracked.cause, tracked.id) == (cause, id))
    }

    fn track(&mut self, tracked: Tracked) {
        if self.requests.len() < MOST_REQUESTS {
            self.requests.push(tracked);
            return;
        }
        let worth = |tracked: &Tracked| (tracked.struck, tracked.bucket.filled(), tracked.at);
        let less =
            |a: &&mut Tracked, b: &&mut Tracked| worth(a).partial_cmp(&worth(b)).unwrap_or(Ordering::Equal);
        if let Some(least) = self.requests.iter_mut().min_by(less) {
            *least = tracked;
        }
    }

    /// Until when what is called so waits.
    fn waits_until(&self, name: Option<u64>) -> Duration {
        let called = self.requests.iter().filter(|tracked| name.is_some() && tracked.name == name);
        called.map(|tracked| tracked.until).fold(self.until, Duration::max)
    }

    /// Whether any of its requests would have to wait.
    fn waits(&self, now: Duration) -> bool {
        self.until > now || self.requests.iter().any(|tracked| tracked.until > now)
    }

    fn forgiven(&self, now: Duration) -> u8 {
        let good = now.saturating_sub(self.since).as_nanos() / FORGIVEN_EVERY.as_nanos();
        u8::try_from(good).unwrap_or(u8::MAX).min(self.strikes)
    }

    fn forgive(&mut self, now: Duration) {
        let forgiven = self.forgiven(now);
        self.strikes -= forgiven;
        self.since += FORGIVEN_EVERY * u32::from(forgiven);
    }
}

impl Tracked {
    fn new((cause, id): (RunawayCause, u64), name: Option<u64>, at: Duration) -> Self {
        Self {
            cause,
            id,
            name,
            at,
            bucket: Bucket::default(),
            times: 0,
            struck: false,
            until: Duration::ZERO,
        }
    }

    /// It came again; whether that was once too often.
    fn again(&mut self, limit: u32, (now, strikes): (Duration, u8)) -> bool {
        self.times += 1;
        self.struck &= strikes > 0;
        self.bucket.add(limit, now) || self.struck
    }
}
