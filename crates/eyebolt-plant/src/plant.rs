//! Clients and workers.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp, LogNormal};

use crate::{
    LawName, Report, Scenario, Trouble,
    events::Events,
    laws::{Law, Offered, Refused, Try},
    report::Served,
    scenario::{BASE, LARGEST, MEDIAN, POLITE, RUDE, SLOPE, SPREAD, WORKERS},
};

/// Noise of service times (lognormal, mean 1).
const NOISE: f64 = 0.25;

/// What one refusal costs, seconds of a worker.
const REFUSAL: f64 = 0.000_1;

/// After so long a client gives up, seconds; a polite one also after so many tries.
const LIFE: f64 = 60.0;
const TRIES: u32 = 6;

/// Connections of the rude tenant, and how soon it comes back.
const RUDE_CONNECTIONS: usize = 200;
const RUDE_GAP: f64 = 0.05;

const TICK: Duration = Duration::from_millis(100);

/// When the hung worker is hung, and for how long.
const HUNG: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(40));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Out,
    In,
    Kept,
}

/// What one client wants.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) born: Duration,
    pub(crate) tenant: usize,
    pub(crate) megapixels: f64,
    pub(crate) tries: u32,
    pub(crate) done: bool,
    /// Of its tries; an answer to an earlier one reaches nobody.
    generation: u32,
    stage: Stage,
    admitted: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrive { tenant: usize },
    Try { request: usize },
    GiveUpWaiting { of: Try },
    Finish { of: Try, service: Duration },
    Tick,
}

struct Plant {
    scenario: Scenario,
    law: Box<dyn Law>,
    random: StdRng,
    now: Duration,
    events: Events<Event>,
    requests: Vec<Request>,
    busy: usize,
    hung: bool,
    rude: usize,
    refused_lately: u32,
    slow: f64,
    served: Served,
}

/// Runs a scenario under a law; the same seed gives the same run.
pub fn run(law: LawName, scenario: Scenario, seed: u64) -> Report {
    let mut plant = Plant {
        scenario,
        law: law.make(scenario.mistake()),
        random: StdRng::seed_from_u64(seed),
        now: Duration::ZERO,
        events: Events::default(),
        requests: Vec::new(),
        busy: 0,
        hung: false,
        rude: 0,
        refused_lately: 0,
        slow: 1.0,
        served: Served::default(),
    };
    for tenant in 0..=POLITE {
        plant.events.plan(Duration::ZERO, Event::Arrive { tenant });
    }
    plant.events.plan(Duration::ZERO, Event::Tick);
    while let Some((at, event)) = plant.events.next()
        && at <= scenario.time
    {
        plant.now = at;
        plant.happen(event);
    }
    Report::new(&scenario, &plant.requests, &plant.served)
}

impl Plant {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { tenant } => self.arrive(tenant),
            Event::Try { request } => self.attempt(request),
            Event::GiveUpWaiting { of } => self.give_up_waiting(of),
            Event::Finish { of, service } => self.finish(of, service),
            Event::Tick => self.tick(),
        }
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.events.plan(self.now + Duration::from_secs_f64(seconds), event);
    }

    fn arrive(&mut self, tenant: usize) {
        let rate = self.scenario.arrivals.rate(tenant, self.now.as_secs_f64());
        if rate <= 0.0 {
            return self.after(0.25, Event::Arrive { tenant });
        }
        let gap = Exp::new(rate).map_or(1.0, |gaps| gaps.sample(&mut self.random));
        self.after(gap, Event::Arrive { tenant });
        let megapixels = self.megapixels(tenant);
        if tenant == RUDE && self.rude >= RUDE_CONNECTIONS {
            return;
        }
        self.rude += usize::from(tenant == RUDE);
        self.requests.push(Request {
            born: self.now,
            tenant,
            megapixels,
            tries: 0,
            done: false,
            generation: 0,
            stage: Stage::Out,
            admitted: self.now,
        });
        self.attempt(self.requests.len() - 1);
    }

    fn megapixels(&mut self, tenant: usize) -> f64 {
        if tenant == RUDE && matches!(self.scenario.arrivals, crate::Arrivals::LargeImages(_)) {
            return LARGEST;
        }
        let sizes = LogNormal::new(MEDIAN.ln(), SPREAD).expect("the spread is finite");
        sizes.sample(&mut self.random).min(LARGEST)
    }

    fn attempt(&mut self, index: usize) {
        let request = &mut self.requests[index];
        if request.done {
            return;
        }
        let tired = request.tenant != RUDE && request.tries >= TRIES;
        if tired || self.now.saturating_sub(request.born).as_secs_f64() > LIFE {
            self.rude -= usize::from(request.tenant == RUDE);
            return;
        }
        request.tries += 1;
        request.generation += 1;
        let of = Try { request: index, generation: request.generation };
        self.after(self.scenario.patience(), Event::GiveUpWaiting { of });
        self.serve(of);
    }

    /// The server's side of an attempt.
    fn serve(&mut self, of: Try) {
        let request = &mut self.requests[of.request];
        if self.law.keeps_answers() {
            match request.stage {
                Stage::Out => {}
                Stage::In => return,
                Stage::Kept => return self.answer(of.request),
            }
        }
        (request.stage, request.admitted) = (Stage::In, self.now);
        let (tenant, megapixels) = (request.tenant, request.megapixels);
        let offered = Offered { of, tenant, megapixels, chance: self.random.random() };
        for (out, refused) in self.law.offer(offered, self.scenario.clock(self.now)) {
            self.refuse(out, refused);
        }
        self.pump();
    }

    fn refuse(&mut self, of: Try, refused: Refused) {
        self.served.refused += 1;
        self.refused_lately += 1;
        self.served.refused_while_idle += u32::from(self.busy < WORKERS);
        let request = &mut self.requests[of.request];
        request.stage = Stage::Out;
        if request.generation != of.generation {
            // The client no longer listens, and comes back by itself.
            return;
        }
        // It waits for no answer any more, so its time-out is void.
        request.generation += 1;
        let (tenant, tries) = (request.tenant, request.tries);
        let wait = if tenant == RUDE {
            RUDE_GAP + refused.hold
        } else {
            refused.hold
                + refused.retry_in.max(0.25 * 2f64.powi(tries as i32)) * self.random.random_range(1.0..1.5)
        };
        self.after(wait, Event::Try { request: of.request });
    }

    fn give_up_waiting(&mut self, of: Try) {
        let request = &mut self.requests[of.request];
        if request.done || request.generation != of.generation {
            return;
        }
        request.generation += 1;
        let wait = if request.tenant == RUDE {
            RUDE_GAP
        } else {
            0.25 * 2f64.powi(request.tries as i32) * self.random.random_range(0.5..1.5)
        };
        self.after(wait, Event::Try { request: of.request });
    }

    fn pump(&mut self) {
        while let Some(of) = self.law.next(self.scenario.clock(self.now)) {
            self.busy += 1;
            let request = &self.requests[of.request];
            let line = BASE + SLOPE * request.megapixels;
            let noise = LogNormal::new(-NOISE * NOISE / 2.0, NOISE).expect("the noise is finite");
            let seconds = line
                * noise.sample(&mut self.random)
                * self.slow
                * self.scenario.slowness(self.now.as_secs_f64());
            let mut service = Duration::from_secs_f64(seconds);
            if self.scenario.trouble == Some(Trouble::Hung) && self.now >= HUNG.0 && !self.hung {
                (self.hung, service) = (true, HUNG.1);
            }
            self.events.plan(self.now + service, Event::Finish { of, service });
        }
    }

    fn finish(&mut self, of: Try, service: Duration) {
        self.busy -= 1;
        let request = &mut self.requests[of.request];
        let sojourn = self.now.saturating_sub(request.admitted);
        let reaches = request.generation == of.generation;
        self.law.complete(of, (service, sojourn), self.scenario.clock(self.now));
        if !request.done && (reaches || self.law.keeps_answers()) {
            request.stage = Stage::Kept;
            self.served.finished(self.now, of.request, sojourn);
            // Whoever timed out meanwhile finds it when he comes back.
            self.answer(of.request);
        } else {
            self.served.wasted += 1;
        }
        self.pump();
    }

    fn answer(&mut self, index: usize) {
        let request = &mut self.requests[index];
        if !request.done {
            request.done = true;
            self.rude -= usize::from(request.tenant == RUDE);
        }
    }

    fn tick(&mut self) {
        let spent = f64::from(self.refused_lately) * REFUSAL / TICK.as_secs_f64() / WORKERS as f64;
        self.slow = 1.0 / (1.0 - spent).max(0.2);
        self.refused_lately = 0;
        self.law.tick(self.scenario.clock(self.now));
        self.events.plan(self.now + TICK, Event::Tick);
        // What the law allows by now.
        self.pump();
    }
}
