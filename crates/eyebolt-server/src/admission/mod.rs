//! The room "admission": who may have a worker now, who waits for one, and who comes back later. The capacity law decides
//! ([`eyebolt_admission::Capacity`]); here it meets the clock, the requests and the jobs that wait in the database.
//!
//! A request that is waited for has a place in memory and no row: turning it away costs nothing. A pending job has a row, and
//! a ticket that stands for any job of its line.

mod cost;
mod decisions;
mod settings;
mod state;
mod view;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eyebolt_admission::{Ask, Capacity, CapacitySettings, Refusal, Ticket};
use eyebolt_store::{Line, Waiting as Counted};
use eyebolt_types::{Class, id::ProjectId};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

pub(crate) use self::cost::{Look, looks};
use self::state::{State, Todo};
pub use self::{
    decisions::{Decisions, Moment},
    settings::AdmissionSettings,
    view::{CapacityReport, ClassReport, CostReport, TenantReport},
};

/// Between two looks at what was measured.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The workers of this process. Cheap to clone; every clone is the same room.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    since: Instant,
    /// There are claims to be made.
    due: Notify,
    workers: usize,
}

/// A request that wants a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Whose it is.
    pub(crate) project: ProjectId,
    /// Who sent it: strikes are counted by it.
    pub(crate) caller: u64,
    /// How urgent it is.
    pub(crate) class: Class,
    /// Whether it is done for sure once it is in.
    pub(crate) promised: bool,
    /// Predicted seconds of a worker.
    pub(crate) service: f64,
}

/// What becomes of a request that waits.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It runs.
    Admitted(Permit),
    /// It made room for somebody.
    Refused(Refusal),
    /// The process stops: nothing is begun.
    Closed,
}

/// A worker: given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Admission,
    ticket: Option<Ticket>,
}

/// The worker that an attempt has, for everybody who works in it: given back when the last one lets go. A thread that can't be
/// stopped keeps it after the attempt is over; so the law knows that it is busy, and in time that it hangs.
#[derive(Debug, Clone, Default)]
pub struct Worker(#[expect(dead_code, reason = "it is held")] Option<Arc<Permit>>);

impl From<Permit> for Worker {
    fn from(permit: Permit) -> Self {
        Self(Some(Arc::new(permit)))
    }
}

/// A place among those who wait: left when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    admission: Admission,
    ticket: Option<Ticket>,
    told: oneshot::Receiver<Outcome>,
}

/// Workers that are to take pending jobs of a line.
#[derive(Debug)]
pub(crate) struct Claims {
    admission: Admission,
    line: Line,
    permits: Vec<Permit>,
    began: Duration,
    asked: u64,
}

impl Admission {
    /// So many workers, all idle; how many of them items of batches may have, and how many where those take long and calls come
    /// beside them. `deadline`: how long a job may take, waiting included; no more is promised than is done by then, whatever else
    /// there is to do.
    pub(crate) fn new(
        settings: &AdmissionSettings,
        (workers, batch_workers, long_batch_workers): (usize, usize, usize),
        deadline: Duration,
    ) -> Self {
        let law = CapacitySettings {
            workers,
            batch_workers,
            long_batch_workers,
            standard_share: settings.standard_share,
            batch_share: settings.batch_share,
            // A share of nothing promises little: then jobs are for quiet hours.
            promised_bound: deadline.as_secs_f64() * settings.standard_share.max(0.01),
        };
        let state = Mutex::new(State::new(Capacity::new(law)));
        Self(Arc::new(Inner { state, since: Instant::now(), due: Notify::new(), workers }))
    }

    /// Jobs that run at once.
    pub(crate) fn workers(&self) -> usize {
        self.0.workers
    }

    /// Predicted seconds of a worker.
    pub(crate) fn predict(&self, looks: Vec<Look>, megapixels: f64) -> f64 {
        self.state().costs.predict(looks, megapixels)
    }

    /// The same of looks of which each is at so many parts, which share the megapixels.
    pub(crate) fn predict_parts(&self, looks: Vec<(Look, u64)>, megapixels: f64) -> f64 {
        self.state().costs.predict_parts(looks, megapixels)
    }

    /// How long a request of this urgency would wait that comes now: predicted.
    pub(crate) fn wait(&self, class: Class) -> Duration {
        let wait = self.state().law.work(class) / self.0.workers.max(1) as f64;
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
    }

    /// Work was done: how long each step took, and everything together.
    pub(crate) fn learn(
        &self,
        steps: impl IntoIterator<Item = (Look, Duration)>,
        megapixels: f64,
        took: Duration,
    ) {
        let (mut state, mut rest) = (self.state(), took);
        for (look, took) in steps {
            state.costs.learn(Some(look), megapixels, took);
            rest = rest.saturating_sub(took);
        }
        state.costs.learn(None, megapixels, rest);
    }

    /// Whether such a request would be let in now. Costs nothing, and changes nothing.
    pub(crate) fn would_admit(&self, project: ProjectId, class: Class, promised: bool) -> bool {
        let state = self.state();
        !state.open || state.law.would_admit(&project, class, promised)
    }

    /// Turns a request away that would not be let in.
    pub(crate) fn turn_away(&self, wanted: Wanted) -> Refusal {
        let mut state = self.state();
        let refusal = state.law.refuse(&ask(wanted), self.now());
        state.record.refused(wanted.class, &refusal);
        refusal
    }

    /// Takes a place among those who wait. One that can begin has begun when this returns.
    ///
    /// # Errors
    /// Where there is no room.
    pub(crate) fn enter(&self, wanted: Wanted) -> Result<Waiting, Refusal> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state();
        if !state.open {
            return Ok(Waiting { admission: self.clone(), ticket: None, told });
        }
        let (ticket, todo) = state.offer(ask(wanted), tell, self.now())?;
        drop(state);
        self.carry_out(todo);
        Ok(Waiting { admission: self.clone(), ticket: Some(ticket), told })
    }

    /// Begins nothing more.
    pub(crate) fn close(&self) {
        let told = self.state().close();
        for tell in told {
            // Whoever has gone needs no word.
            _ = tell.send(Outcome::Closed);
        }
    }

    /// Resolves where workers are to take pending jobs: of which lines.
    pub(crate) async fn due(&self) -> Vec<Claims> {
        loop {
            let notified = self.0.due.notified();
            let (due, began) = (self.state().take_due(), self.now());
            if !due.is_empty() {
                let claims = due.into_iter().map(|(line, tickets)| Claims {
                    admission: self.clone(),
                    line,
                    asked: tickets.len() as u64,
                    permits: tickets.into_iter().map(|ticket| self.permit(ticket)).collect(),
                    began,
                });
                return claims.collect();
            }
            notified.await;
        }
    }

    /// Takes up what waits in the database and is not known of.
    pub(crate) fn count(&self, counted: &[Counted]) {
        let (mut state, mut todo) = (self.state(), Todo::default());
        state.count(counted, self.now());
        state.start(&mut todo, self.now());
        drop(state);
        self.carry_out(todo);
    }

    /// Whether jobs wait that are known of.
    pub(crate) fn knows_of_jobs(&self) -> bool {
        self.state().knows_of_jobs()
    }

    /// To be called every [`TICK`].
    pub(crate) fn tick(&self) {
        let mut state = self.state();
        state.law.tick(self.now());
        let State { law, record, .. } = &mut *state;
        record.tick(|| view::moment(law));
    }

    /// A request that was turned away is a job now.
    pub(crate) fn answered_later(&self) {
        self.state().record.of(Class::Interactive).answered_later += 1;
    }

    fn permit(&self, ticket: Ticket) -> Permit {
        Permit { admission: self.clone(), ticket: Some(ticket) }
    }

    /// Outside the lock: a permit that nobody takes comes back at once.
    fn carry_out(&self, todo: Todo) {
        for (refusal, tell) in todo.refused {
            _ = tell.send(Outcome::Refused(refusal));
        }
        for (ticket, tell) in todo.started {
            _ = tell.send(Outcome::Admitted(self.permit(ticket)));
        }
        if todo.claims {
            self.0.due.notify_one();
        }
    }

    /// Since the start; a clock that is set does not matter.
    fn now(&self) -> Duration {
        self.0.since.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("workers", &self.0.workers).finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let (mut state, mut todo) = (self.admission.state(), Todo::default());
        let now = self.admission.now();
        state.law.complete(ticket, now);
        state.start(&mut todo, now);
        drop(state);
        self.admission.carry_out(todo);
    }
}

impl Waiting {
    /// A worker, where one was idle.
    pub(crate) fn at_once(&mut self) -> Option<Permit> {
        match self.told.try_recv() {
            Ok(Outcome::Admitted(permit)) => {
                self.ticket = None;
                Some(permit)
            }
            Ok(Outcome::Refused(_) | Outcome::Closed) | Err(_) => None,
        }
    }

    /// What becomes of it.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.told).await.unwrap_or(Outcome::Closed);
        self.ticket = None;
        outcome
    }

    /// There is a pending job now, of this line, that this place is for.
    pub(crate) fn keep(mut self, line: Line) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut state = self.admission.state();
        if state.keep(ticket, line, self.admission.now()) {
            return;
        }
        // Its turn came in between.
        if let Ok(Outcome::Admitted(mut permit)) = self.told.try_recv()
            && let Some(ticket) = permit.ticket.take()
        {
            state.hand_over(ticket, line);
            drop(state);
            self.admission.0.due.notify_one();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.admission.state().leave(ticket);
        }
    }
}

impl Claims {
    /// Of which line.
    pub(crate) fn line(&self) -> Line {
        self.line
    }

    /// How many jobs.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.asked).unwrap_or(u32::MAX)
    }

    /// So many jobs were there: a worker for each.
    pub(crate) fn found(mut self, jobs: usize) -> Vec<Permit> {
        let emptied = (jobs < self.permits.len()).then_some(self.began);
        let permits = std::mem::take(&mut self.permits);
        self.answered(emptied);
        permits.into_iter().take(jobs).collect()
    }

    fn answered(&mut self, emptied: Option<Duration>) {
        let asked = std::mem::take(&mut self.asked);
        if asked > 0 {
            self.admission.state().claimed(self.line, asked, emptied);
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        // Nobody knows what was there: it will be counted.
        self.answered(None);
    }
}

fn ask(wanted: Wanted) -> Ask<ProjectId> {
    let Wanted { project, caller, class, promised, service } = wanted;
    Ask { tenant: project, caller, class, service, promised, chance: crate::chance::roll() }
}
