//! Laws between clients and workers, behind one trait.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use eyebolt_admission::{Ask, Capacity, CapacitySettings, CostModel, Refusal, Ticket, Verdict};
use eyebolt_types::Class;

use crate::scenario::{BASE, CAPACITY, POLITE, RUDE, SLOPE, WORKERS};

/// One try of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Try {
    pub(crate) request: usize,
    pub(crate) generation: u32,
}

/// A try as a law sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered {
    pub(crate) of: Try,
    pub(crate) tenant: usize,
    pub(crate) megapixels: f64,
    pub(crate) chance: f64,
}

/// A refusal: when to come back, and for how long it is held back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub(crate) retry_in: f64,
    pub(crate) hold: f64,
}

impl Refused {
    const PLAIN: Self = Self { retry_in: 1.0, hold: 0.0 };
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { retry_in: refusal.retry_in.as_secs_f64(), hold: refusal.hold.as_secs_f64() }
    }
}

/// What a law decides; the ones that are out may be others than the one that asked.
pub(crate) type Out = Vec<(Try, Refused)>;

pub(crate) trait Law {
    fn offer(&mut self, offered: Offered, now: Duration) -> Out;

    /// Who runs now, where a worker is free.
    fn next(&mut self, now: Duration) -> Option<Try>;

    /// It ran for `service`, and was in for `sojourn`.
    fn complete(&mut self, of: Try, times: (Duration, Duration), now: Duration);

    /// Every 100 ms.
    fn tick(&mut self, now: Duration);

    /// Whether answers are kept, so that a retry joins what is under way and finds what is done.
    fn keeps_answers(&self) -> bool {
        false
    }
}

/// Which law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LawName {
    /// Everybody waits.
    NoLimit,
    /// A ninth of the machine for each tenant, whatever the others do.
    TokenBuckets,
    /// A limit on requests in flight that follows measured latency.
    Gradient2,
    /// Ours.
    Eyebolt,
}

impl LawName {
    /// In the order of tables.
    pub const ALL: [Self; 4] = [Self::NoLimit, Self::TokenBuckets, Self::Gradient2, Self::Eyebolt];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoLimit => "no limit",
            Self::TokenBuckets => "token buckets",
            Self::Gradient2 => "Gradient2",
            Self::Eyebolt => "Eyebolt",
        }
    }

    pub(crate) fn make(self, mistake: f64) -> Box<dyn Law> {
        match self {
            Self::NoLimit => Box::new(Fifo::default()),
            Self::TokenBuckets => Box::new(TokenBuckets::default()),
            Self::Gradient2 => Box::new(Gradient2::default()),
            Self::Eyebolt => Box::new(Eyebolt::new(mistake)),
        }
    }
}

/// First come, first served.
#[derive(Debug, Default)]
struct Fifo {
    waiting: VecDeque<Try>,
    running: usize,
}

impl Law for Fifo {
    fn offer(&mut self, offered: Offered, _: Duration) -> Out {
        self.waiting.push_back(offered.of);
        Vec::new()
    }

    fn next(&mut self, _: Duration) -> Option<Try> {
        let next = (self.running < WORKERS).then(|| self.waiting.pop_front()).flatten();
        self.running += usize::from(next.is_some());
        next
    }

    fn complete(&mut self, _: Try, _: (Duration, Duration), _: Duration) {
        self.running -= 1;
    }

    fn tick(&mut self, _: Duration) {}
}

#[derive(Debug, Default)]
struct TokenBuckets {
    queue: Fifo,
    buckets: HashMap<usize, (f64, Duration)>,
}

impl Law for TokenBuckets {
    fn offer(&mut self, offered: Offered, now: Duration) -> Out {
        let rate = CAPACITY / (POLITE + 1) as f64;
        let (tokens, since) = self.buckets.entry(offered.tenant).or_insert((rate, now));
        *tokens = (*tokens + now.saturating_sub(*since).as_secs_f64() * rate).min(2.0 * rate);
        *since = now;
        if *tokens < 1.0 {
            return vec![(offered.of, Refused::PLAIN)];
        }
        *tokens -= 1.0;
        self.queue.offer(offered, now)
    }

    fn next(&mut self, now: Duration) -> Option<Try> {
        self.queue.next(now)
    }

    fn complete(&mut self, of: Try, times: (Duration, Duration), now: Duration) {
        self.queue.complete(of, times, now);
    }

    fn tick(&mut self, _: Duration) {}
}

/// Tolerance 1.5, queue 4, smoothing 0.2, window 600; limits from 1 to 200.
#[derive(Debug)]
struct Gradient2 {
    queue: Fifo,
    in_flight: usize,
    limit: f64,
    long: Option<f64>,
    window: Vec<f64>,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self { queue: Fifo::default(), in_flight: 0, limit: 20.0, long: None, window: Vec::new() }
    }
}

impl Law for Gradient2 {
    fn offer(&mut self, offered: Offered, now: Duration) -> Out {
        if self.in_flight as f64 >= self.limit {
            return vec![(offered.of, Refused::PLAIN)];
        }
        self.in_flight += 1;
        self.queue.offer(offered, now)
    }

    fn next(&mut self, now: Duration) -> Option<Try> {
        self.queue.next(now)
    }

    fn complete(&mut self, of: Try, times: (Duration, Duration), now: Duration) {
        self.queue.complete(of, times, now);
        self.in_flight -= 1;
        self.window.push(times.1.as_secs_f64());
    }

    fn tick(&mut self, _: Duration) {
        if self.window.is_empty() {
            return;
        }
        let short = self.window.drain(..).collect::<Vec<_>>();
        let short = short.iter().sum::<f64>() / short.len() as f64;
        let long = self.long.map_or(short, |long| long + (short - long) * 2.0 / 601.0);
        let long = if long / short > 2.0 { long * 0.95 } else { long };
        self.long = Some(long);
        if self.in_flight as f64 >= self.limit / 2.0 {
            let gradient = (1.5 * long / short).clamp(0.5, 1.0);
            self.limit = (self.limit * 0.8 + 0.2 * (self.limit * gradient + 4.0)).clamp(1.0, 200.0);
        }
    }
}

struct Eyebolt {
    capacity: Capacity<usize>,
    cost: CostModel,
    requests: HashMap<Ticket, (Try, f64)>,
    tickets: HashMap<Try, Ticket>,
}

impl Eyebolt {
    fn new(mistake: f64) -> Self {
        Self {
            capacity: Capacity::new(CapacitySettings::new(WORKERS)),
            cost: CostModel::new(BASE * mistake, SLOPE * mistake),
            requests: HashMap::new(),
            tickets: HashMap::new(),
        }
    }
}

impl Law for Eyebolt {
    fn offer(&mut self, offered: Offered, now: Duration) -> Out {
        let ask = Ask {
            tenant: offered.tenant,
            // Every polite request is another phone's; the rude ones come from one address.
            caller: if offered.tenant == RUDE { u64::MAX } else { offered.of.request as u64 },
            class: Class::Interactive,
            service: self.cost.predict(offered.megapixels),
            promised: false,
            chance: offered.chance,
        };
        match self.capacity.offer(ask, now) {
            Verdict::Refused(refusal) => vec![(offered.of, refusal.into())],
            Verdict::Admitted { ticket, evicted } => {
                self.requests.insert(ticket, (offered.of, offered.megapixels));
                self.tickets.insert(offered.of, ticket);
                let out = evicted.and_then(|(ticket, refusal)| {
                    let (of, _) = self.requests.remove(&ticket)?;
                    self.tickets.remove(&of);
                    Some((of, refusal.into()))
                });
                out.into_iter().collect()
            }
        }
    }

    fn next(&mut self, now: Duration) -> Option<Try> {
        let ticket = self.capacity.next(now)?;
        self.requests.get(&ticket).map(|(of, _)| *of)
    }

    fn complete(&mut self, of: Try, (service, _): (Duration, Duration), now: Duration) {
        let Some(ticket) = self.tickets.remove(&of) else { return };
        self.capacity.complete(ticket, now);
        if let Some((_, megapixels)) = self.requests.remove(&ticket) {
            self.cost.learn(megapixels, service);
        }
    }

    fn tick(&mut self, now: Duration) {
        self.capacity.tick(now);
    }

    fn keeps_answers(&self) -> bool {
        true
    }
}
