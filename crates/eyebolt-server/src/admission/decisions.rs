//! What was decided since the start, and how the machine stood in the last minutes.

use std::collections::VecDeque;

use eyebolt_admission::Refusal;
use eyebolt_types::Class;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Moments that are remembered: one a second.
const MOMENTS: usize = 120;

/// Ticks from one moment to the next.
const TICKS: u32 = 10;

/// How often each was decided of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CapacityDecisions)]
pub struct Decisions {
    /// Let in.
    pub admitted: u64,
    /// Turned away when they came.
    pub refused: u64,
    /// Turned away while they waited, for somebody who had fewer waiting.
    pub evicted: u64,
    /// Made a job to be done later, instead of being turned away.
    pub answered_later: u64,
}

/// How the machine stood at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CapacityMoment)]
pub struct Moment {
    /// Jobs that ran.
    pub running: usize,
    /// Requests and jobs that waited.
    pub waiting: usize,
    /// Predicted seconds of a worker for requests that waited while somebody waited for them.
    pub work_seconds: f64,
    /// From so much of it on, whoever had others waiting already was turned away.
    pub bound_seconds: f64,
}

/// Since the start.
#[derive(Debug, Default)]
pub(super) struct Record {
    classes: [Decisions; Class::ALL.len()],
    held_back: u64,
    moments: VecDeque<Moment>,
    ticks: u32,
}

impl Record {
    pub(super) fn of(&mut self, class: Class) -> &mut Decisions {
        &mut self.classes[class as usize]
    }

    /// One was turned away, when it came or while it waited.
    pub(super) fn refused(&mut self, class: Class, refusal: &Refusal) {
        self.of(class).refused += 1;
        self.held_back += u64::from(!refusal.hold.is_zero());
    }

    /// One had to make room.
    pub(super) fn evicted(&mut self, class: Class, refusal: &Refusal) {
        self.of(class).evicted += 1;
        self.held_back += u64::from(!refusal.hold.is_zero());
    }

    /// Remembers how the machine stands, once a second.
    pub(super) fn tick(&mut self, now: impl FnOnce() -> Moment) {
        self.ticks += 1;
        if self.ticks < TICKS {
            return;
        }
        self.ticks = 0;
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(now());
    }

    pub(super) fn decisions(&self, class: Class) -> Decisions {
        self.classes[class as usize]
    }

    /// Turned away in any way.
    pub(super) fn refusals(&self) -> u64 {
        self.classes.iter().map(|one| one.refused + one.evicted).sum()
    }

    pub(super) fn held_back(&self) -> u64 {
        self.held_back
    }

    pub(super) fn moments(&self) -> Vec<Moment> {
        self.moments.iter().copied().collect()
    }
}
