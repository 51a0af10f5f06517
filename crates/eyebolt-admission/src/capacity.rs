//! The capacity law. Known of vision, unlike of services at large: how many workers there are, and how long a request will
//! hold one before it runs. So the *work* that waits is bounded, tenants share it by how *many* of theirs wait, and measured
//! delay does no more than trim the bound.

mod batches;

use std::{collections::HashMap, hash::Hash, time::Duration};

use eyebolt_types::Class;

use crate::{
    Bound, Strikes,
    lane::{Lane, Waiting},
    shares::Shares,
};

/// The part of the bound that a class may fill: less urgent work is turned away first.
fn part(class: Class) -> f64 {
    match class {
        Class::Interactive => 1.0,
        Class::Standard => 0.8,
        Class::Batch => 0.5,
    }
}

/// What the machine is, and how it is shared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapacitySettings {
    /// Requests that run at once.
    pub workers: usize,
    /// Of these, items of batches: what runs is not taken back, so whoever is waited for finds a worker.
    pub batch_workers: usize,
    /// The same where one of them takes longer than 50 ms, until ten seconds after the last call that somebody waited for.
    pub long_batch_workers: usize,
    /// Part of the machine that [`Class::Standard`] gets as long as some of it waits, 0 to 1.
    pub standard_share: f64,
    /// The same of [`Class::Batch`].
    pub batch_share: f64,
    /// Promised work that may wait for each worker, seconds. A promise is kept in time where this is no more than what the
    /// share of its class does in the time that a job has.
    pub promised_bound: f64,
}

impl CapacitySettings {
    /// With so many workers, a fifth for work that is waited for elsewhere, a tenth for batches, and three minutes of
    /// promises.
    pub fn new(workers: usize) -> Self {
        let batch_workers = (workers - workers / 4).max(1);
        let long_batch_workers = batch_workers;
        Self {
            workers,
            batch_workers,
            long_batch_workers,
            standard_share: 0.2,
            batch_share: 0.1,
            promised_bound: 180.0,
        }
    }
}

/// Names a request that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A request that wants to come in.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask<T> {
    /// Whose it is.
    pub tenant: T,
    /// Who sends it: a digest of key and address, say. One of a tenant's thousand phones that comes back too early does not
    /// pay for it with the others.
    pub caller: u64,
    /// How urgent it is.
    pub class: Class,
    /// Predicted seconds of a worker ([`crate::CostModel`]).
    pub service: f64,
    /// Whether it is never turned away once it is in: somebody was, or will be, told that it will be done.
    pub promised: bool,
    /// At random from 0 to 1: clients that are refused together shall not come back together.
    pub chance: f64,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It waits, or runs as soon as [`Capacity::next`] says so.
    Admitted {
        /// Its name.
        ticket: Ticket,
        /// One that had to make room: a tenant's that had more waiting.
        evicted: Option<(Ticket, Refusal)>,
    },
    /// It may come back.
    Refused(Refusal),
}

/// Why not, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusal {
    /// When to come back.
    pub retry_in: Duration,
    /// For how long to hold this refusal back: for whom comes back too early.
    pub hold: Duration,
    /// Work that waits, seconds.
    pub work: f64,
    /// How much may wait.
    pub bound: f64,
    /// How often whoever asked came back too early lately.
    pub strikes: u8,
}

/// The state of the law. After each call that may change who can run, [`Capacity::next`] is to be called until it says
/// nothing more.
#[derive(Debug)]
pub struct Capacity<T> {
    settings: CapacitySettings,
    bound: Bound,
    lanes: [Lane<T>; 3],
    tickets: HashMap<Ticket, Admitted<T>>,
    running: HashMap<Ticket, Running<T>>,
    hung: usize,
    shares: Shares,
    strikes: HashMap<u64, Strikes>,
    last: u64,
    /// When somebody last came who waits for the answer.
    called: Option<Duration>,
}

/// How a request comes in.
enum WayIn<T> {
    Free,
    InPlaceOf(T, Class),
}

#[derive(Debug)]
struct Admitted<T> {
    tenant: T,
    caller: u64,
    class: Class,
}

#[derive(Debug)]
struct Running<T> {
    tenant: T,
    class: Class,
    predicted: f64,
    since: Duration,
}

/// A tenant of whom nobody waits gets one in as long as no more than so many times the bound waits.
const STANDING: f64 = 3.0;

/// While large images wait they fill the bound, and somebody must go for whoever comes: the newest would be one of them more
/// often than by chance. In this part of all cases the smaller of the two newest goes. With it the large ones are served
/// about as often as the small ones, at any load (docs/overload.md).
const SPARES_LARGE: f64 = 0.25;

/// Work that runs for so many times what was predicted, and for at least so long, hangs: its worker is not counted on.
const HUNG: (f64, Duration) = (10.0, Duration::from_secs(5));

impl<T: Eq + Hash + Clone> Capacity<T> {
    /// An idle machine.
    pub fn new(settings: CapacitySettings) -> Self {
        Self {
            settings,
            bound: Bound::default(),
            lanes: Default::default(),
            tickets: HashMap::new(),
            running: HashMap::new(),
            hung: 0,
            shares: Shares::new([0.0, settings.standard_share, settings.batch_share]),
            strikes: HashMap::new(),
            last: 0,
            called: None,
        }
    }

    /// May this come in?
    ///
    /// 1. Where a worker is idle: always.
    /// 2. Where less work waits than the bound of its class.
    /// 3. Where another tenant has many more waiting: in place of that tenant's newest.
    /// 4. Where none of this tenant waits, up to three times the bound.
    ///
    /// What is promised evicts nobody. A tenant whose promises fill half of their bound leaves the rest to others.
    pub fn offer(&mut self, ask: Ask<T>, now: Duration) -> Verdict {
        match self.way_in(&ask.tenant, ask.class, ask.promised) {
            Some(WayIn::Free) => self.admit(ask, None, now),
            Some(WayIn::InPlaceOf(tenant, class)) => {
                let evicted = self.lanes[class as usize].evict(&tenant, ask.chance < SPARES_LARGE);
                let evicted = evicted.map(|ticket| (ticket, self.turn_away(ticket, ask.chance, now)));
                self.admit(ask, evicted, now)
            }
            None => Verdict::Refused(self.refuse(&ask, now)),
        }
    }

    /// Whether [`Capacity::offer`] would admit such a request: what a request costs has no say in that. Nothing is changed.
    pub fn would_admit(&self, tenant: &T, class: Class, promised: bool) -> bool {
        self.way_in(tenant, class, promised).is_some()
    }

    /// Takes in what was let in before, by another process or an earlier run: it is promised.
    pub fn take_up(&mut self, ask: Ask<T>, now: Duration) -> Ticket {
        self.enter(Ask { promised: true, ..ask }, now)
    }

    fn way_in(&self, tenant: &T, class: Class, promised: bool) -> Option<WayIn<T>> {
        if self.running.len() + self.waiting() < self.settings.workers {
            return Some(WayIn::Free);
        }
        let (work, bound) = (self.work(class), self.bound_of(class, promised));
        if promised {
            let own = self.lanes[class as usize].work_of(tenant);
            let within = work < bound && own < bound / 2.0;
            return (within || own == 0.0 && work < STANDING * bound).then_some(WayIn::Free);
        }
        if work < bound {
            return Some(WayIn::Free);
        }
        let own = self.unpromised(tenant);
        if work >= STANDING * self.bound_of(Class::Interactive, false) {
            return None;
        }
        if let Some((tenant, class)) = self.fullest(own, class) {
            return Some(WayIn::InPlaceOf(tenant, class));
        }
        (own == 0).then_some(WayIn::Free)
    }

    /// What is to run now; `None`: nothing, or no worker is free.
    pub fn next(&mut self, now: Duration) -> Option<Ticket> {
        if self.running.len() >= self.settings.workers {
            return None;
        }
        let class = self.next_class(now)?;
        let lane = &mut self.lanes[class as usize];
        let tenant = lane.head()?.0.clone();
        let first = lane.serve(&tenant, 1.0)?;
        self.tickets.remove(&first.ticket);
        let waits = Class::ALL.map(|class| self.lanes[class as usize].count() > 0);
        self.shares.served(class, first.service, waits);
        self.bound.started(now.saturating_sub(first.since));
        let running = Running { tenant, class, predicted: first.service, since: now };
        self.running.insert(first.ticket, running);
        Some(first.ticket)
    }

    /// What ran has ended, in whatever way.
    pub fn complete(&mut self, ticket: Ticket, now: Duration) {
        if let Some(ran) = self.running.remove(&ticket) {
            // Whoever had the bad luck to meet a hung worker or a clock that jumped does not pay for it.
            let took = now.saturating_sub(ran.since).as_secs_f64().min(HUNG.0 * ran.predicted);
            self.lanes[ran.class as usize].settle(&ran.tenant, took - ran.predicted);
            self.hung = self.count_hung(now);
        }
    }

    /// Whoever waits has gone.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(Admitted { tenant, class, .. }) = self.tickets.remove(&ticket) {
            self.lanes[class as usize].remove(&tenant, ticket);
        }
    }

    /// Whoever waits was told that it will be done.
    pub fn promise(&mut self, ticket: Ticket) {
        if let Some(Admitted { tenant, class, .. }) = self.tickets.get(&ticket) {
            self.lanes[*class as usize].promise(tenant, ticket);
        }
    }

    /// To be called every 100 ms.
    pub fn tick(&mut self, now: Duration) {
        self.bound.tick();
        self.hung = self.count_hung(now);
        self.lanes.iter_mut().for_each(Lane::tidy);
        self.strikes.retain(|_, strikes| !strikes.is_clean(now));
    }

    /// Predicted seconds of what waits and would be served before, or together with, a request of this class.
    pub fn work(&self, class: Class) -> f64 {
        self.lanes[..=class as usize].iter().map(Lane::work).sum()
    }

    /// Seconds of work that may wait.
    pub fn bound_of(&self, class: Class, promised: bool) -> f64 {
        let each = if promised { self.settings.promised_bound } else { self.bound.seconds() };
        // Where every worker hangs there is still one to be hoped for.
        let workers = self.settings.workers.saturating_sub(self.hung).max(1);
        workers as f64 * each * part(class)
    }

    /// How many of a class wait, by tenant.
    pub fn lines(&self, class: Class) -> impl Iterator<Item = (&T, usize)> {
        self.lanes[class as usize].counts()
    }

    /// How many of a tenant's wait.
    pub fn waiting_of(&self, tenant: &T) -> usize {
        self.lanes.iter().map(|lane| lane.count_of(tenant)).sum()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(Lane::count).sum()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Workers that are not counted on, since what they run does not end.
    pub fn hung(&self) -> usize {
        self.hung
    }

    /// How often a caller came back too early lately.
    pub fn strikes(&self, caller: u64, now: Duration) -> u8 {
        self.strikes.get(&caller).map_or(0, |strikes| strikes.count(now))
    }

    fn admit(&mut self, ask: Ask<T>, evicted: Option<(Ticket, Refusal)>, now: Duration) -> Verdict {
        Verdict::Admitted { ticket: self.enter(ask, now), evicted }
    }

    fn enter(&mut self, ask: Ask<T>, now: Duration) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        let Ask { tenant, caller, class, service, promised, .. } = ask;
        if class == Class::Interactive {
            self.called = Some(now);
        }
        self.tickets.insert(ticket, Admitted { tenant: tenant.clone(), caller, class });
        let waiting = Waiting { ticket, service, since: now, promised };
        self.lanes[class as usize].push(tenant, waiting);
        ticket
    }

    /// Whose newest makes room for a tenant that has `own` waiting: of those who have most, and more than twice as many,
    /// whoever came last. Counted, not weighed: otherwise large images would be turned away for being large.
    fn fullest(&self, own: usize, class: Class) -> Option<(T, Class)> {
        let lines = Class::ALL[class as usize..].iter().flat_map(|&class| {
            let lines = self.lanes[class as usize].unpromised_lines();
            lines.map(move |(tenant, count, newest)| (count, newest, tenant, class))
        });
        let (count, _, tenant, class) = lines.max_by_key(|&(count, newest, ..)| (count, newest))?;
        (count > 1 && (own == 0 || count > 2 * own)).then(|| (tenant.clone(), class))
    }

    fn unpromised(&self, tenant: &T) -> usize {
        self.lanes.iter().map(|lane| lane.unpromised(tenant)).sum()
    }

    fn turn_away(&mut self, ticket: Ticket, chance: f64, now: Duration) -> Refusal {
        let Some(Admitted { caller, class, .. }) = self.tickets.remove(&ticket) else {
            return self.refusal(Class::Interactive, chance);
        };
        self.hold(caller, self.refusal(class, chance), now)
    }

    /// Refuses a request without another look: where [`Capacity::would_admit`] has said no.
    pub fn refuse(&mut self, ask: &Ask<T>, now: Duration) -> Refusal {
        let mut refusal = self.refusal(ask.class, ask.chance);
        refusal.bound = self.bound_of(ask.class, ask.promised);
        self.hold(ask.caller, refusal, now)
    }

    fn hold(&mut self, caller: u64, refusal: Refusal, now: Duration) -> Refusal {
        let strikes = self.strikes.entry(caller).or_default();
        let hold = strikes.refuse(now, refusal.retry_in);
        Refusal { hold, strikes: strikes.count(now), ..refusal }
    }

    fn refusal(&self, class: Class, chance: f64) -> Refusal {
        let (work, workers) = (self.work(class), self.settings.workers.max(1) as f64);
        let retry_in = seconds((work / workers).max(1.0) * (1.0 + 0.5 * chance.clamp(0.0, 1.0)));
        Refusal { retry_in, hold: Duration::ZERO, work, bound: self.bound_of(class, false), strikes: 0 }
    }

    /// Strictly by urgency, but for what the less urgent ones are owed. Batches leave a part of the workers free: work that runs
    /// is not taken back, and whoever is waited for finds one.
    fn next_class(&self, now: Duration) -> Option<Class> {
        let full = self.batches_are_full(now);
        let may = |class: &Class| *class != Class::Batch || !full;
        let first = |class: &Class| self.lanes[*class as usize].head().map(|(_, first)| first.service);
        let owed = Class::ALL
            .into_iter()
            .rev()
            .filter(may)
            .find(|class| first(class).is_some_and(|service| self.shares.owed(*class) >= service));
        owed.or_else(|| {
            Class::ALL.into_iter().filter(may).find(|&class| self.lanes[class as usize].count() > 0)
        })
    }

    fn count_hung(&self, now: Duration) -> usize {
        let hangs = |running: &&Running<T>| {
            let runs = now.saturating_sub(running.since);
            runs > HUNG.1 && runs.as_secs_f64() > HUNG.0 * running.predicted
        };
        self.running.values().filter(hangs).count()
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
