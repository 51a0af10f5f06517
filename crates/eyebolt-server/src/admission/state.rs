//! The law and who stands behind its tickets.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use eyebolt_admission::{Ask, Capacity, Refusal, Ticket, Verdict};
use eyebolt_store::{Line, Waiting as Counted};
use eyebolt_types::{Class, id::ProjectId};
use tokio::sync::oneshot;

use super::{Outcome, cost::Costs, decisions::Record};

/// Tickets of one line at most: what waits beyond them is seen when there are fewer.
const MOST_OF_A_LINE: u64 = 10_000;

/// Who waits under a ticket.
pub(super) enum Behind {
    /// A request.
    Caller(oneshot::Sender<Outcome>, Class),
    /// Any pending job of this line.
    Job(Line),
}

/// What is to be done once the state is no longer locked.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) started: Vec<(Ticket, oneshot::Sender<Outcome>)>,
    pub(super) refused: Vec<(Refusal, oneshot::Sender<Outcome>)>,
    pub(super) claims: bool,
}

pub(super) struct State {
    pub(super) law: Capacity<ProjectId>,
    pub(super) costs: Costs,
    /// Whether anything is begun.
    pub(super) open: bool,
    pub(super) record: Record,
    behind: HashMap<Ticket, Behind>,
    /// Tickets that stand for pending jobs, and when they came.
    lines: HashMap<Line, BTreeMap<Ticket, Duration>>,
    /// Workers that wait for a job of a line.
    due: Vec<(Line, Ticket)>,
    /// Claims that were begun and not answered.
    claiming: HashMap<Line, u64>,
}

impl State {
    pub(super) fn new(law: Capacity<ProjectId>) -> Self {
        Self {
            law,
            costs: Costs::default(),
            open: true,
            record: Record::default(),
            behind: HashMap::new(),
            lines: HashMap::new(),
            due: Vec::new(),
            claiming: HashMap::new(),
        }
    }

    /// Somebody wants to come in, and waits at `told` for what becomes of it.
    pub(super) fn offer(
        &mut self,
        ask: Ask<ProjectId>,
        told: oneshot::Sender<Outcome>,
        now: Duration,
    ) -> Result<(Ticket, Todo), Refusal> {
        let class = ask.class;
        let (ticket, evicted) = match self.law.offer(ask, now) {
            Verdict::Admitted { ticket, evicted } => (ticket, evicted),
            Verdict::Refused(refusal) => {
                self.record.refused(class, &refusal);
                return Err(refusal);
            }
        };
        self.record.of(class).admitted += 1;
        self.behind.insert(ticket, Behind::Caller(told, class));
        let mut todo = Todo::default();
        if let Some((out, refusal)) = evicted
            && let Some(Behind::Caller(told, class)) = self.behind.remove(&out)
        {
            self.record.evicted(class, &refusal);
            todo.refused.push((refusal, told));
        }
        self.start(&mut todo, now);
        Ok((ticket, todo))
    }

    /// Begins what may begin.
    pub(super) fn start(&mut self, todo: &mut Todo, now: Duration) {
        while self.open
            && let Some(ticket) = self.law.next(now)
        {
            match self.behind.remove(&ticket) {
                Some(Behind::Caller(told, _)) => todo.started.push((ticket, told)),
                Some(Behind::Job(line)) => {
                    self.forget(line, ticket);
                    self.due.push((line, ticket));
                    todo.claims = true;
                }
                None => self.law.complete(ticket, now),
            }
        }
    }

    /// The ticket stands for a pending job from now on; `false` where it was begun already.
    pub(super) fn keep(&mut self, ticket: Ticket, line: Line, now: Duration) -> bool {
        let Some(behind) = self.behind.get_mut(&ticket) else { return false };
        *behind = Behind::Job(line);
        self.law.promise(ticket);
        self.lines.entry(line).or_default().insert(ticket, now);
        true
    }

    /// A worker that was begun for a caller is to take a pending job of this line.
    pub(super) fn hand_over(&mut self, ticket: Ticket, line: Line) {
        self.due.push((line, ticket));
    }

    /// Whoever waited has gone.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if self.behind.remove(&ticket).is_some() {
            self.law.leave(ticket);
        }
    }

    /// Nothing is begun any more: those who wait are told.
    pub(super) fn close(&mut self) -> Vec<oneshot::Sender<Outcome>> {
        self.open = false;
        let callers: Vec<_> = self
            .behind
            .iter()
            .filter(|(_, behind)| matches!(behind, Behind::Caller(..)))
            .map(|(t, _)| *t)
            .collect();
        let told = callers.into_iter().filter_map(|ticket| {
            self.law.leave(ticket);
            match self.behind.remove(&ticket) {
                Some(Behind::Caller(told, _)) => Some(told),
                Some(Behind::Job(_)) | None => None,
            }
        });
        told.collect()
    }

    /// The claims to be made now, by line.
    pub(super) fn take_due(&mut self) -> BTreeMap<Line, Vec<Ticket>> {
        let mut due: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (line, ticket) in self.due.drain(..) {
            due.entry(line).or_default().push(ticket);
            *self.claiming.entry(line).or_default() += 1;
        }
        due
    }

    /// So many claims of a line were answered. Where they found too little, nothing that waited at `since` is left there.
    pub(super) fn claimed(&mut self, line: Line, asked: u64, emptied: Option<Duration>) {
        if let Some(claiming) = self.claiming.get_mut(&line) {
            *claiming = claiming.saturating_sub(asked);
            if *claiming == 0 {
                self.claiming.remove(&line);
            }
        }
        let Some(since) = emptied else { return };
        let tickets = self.lines.get(&line).into_iter().flatten();
        let gone: Vec<_> = tickets.filter(|(_, kept)| **kept < since).map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            self.forget(line, ticket);
            self.leave(ticket);
        }
    }

    /// Takes up what waits and has no ticket: jobs of an earlier run, of other servers, and those whose time has come.
    pub(super) fn count(&mut self, counted: &[Counted], now: Duration) {
        for Counted { line, count, predicted } in counted {
            let tickets = self.lines.get(line).map_or(0, |tickets| tickets.len() as u64);
            let due = self.due.iter().filter(|(of, _)| of == line).count() as u64;
            let known = tickets + due + self.claiming.get(line).copied().unwrap_or(0);
            let service = predicted.as_secs_f64() / (*count).max(1) as f64;
            for _ in known..(*count).min(MOST_OF_A_LINE) {
                let ask = Ask {
                    tenant: line.project,
                    caller: 0,
                    class: line.class,
                    service,
                    promised: true,
                    chance: 0.0,
                };
                let ticket = self.law.take_up(ask, now);
                self.behind.insert(ticket, Behind::Job(*line));
                self.lines.entry(*line).or_default().insert(ticket, now);
            }
        }
    }

    /// Whether jobs wait that are known of.
    pub(super) fn knows_of_jobs(&self) -> bool {
        !self.lines.is_empty()
    }

    fn forget(&mut self, line: Line, ticket: Ticket) {
        if let Some(tickets) = self.lines.get_mut(&line) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.lines.remove(&line);
            }
        }
    }
}
