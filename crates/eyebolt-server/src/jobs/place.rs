//! Where a request goes: to a worker at once, among those who wait, or away.

use std::time::Duration;

use eyebolt_admission::Refusal;
use eyebolt_store::{Line, Principal};
use eyebolt_types::{Class, Dedup, DedupStatus, Degraded, ErrorCode, Job, request::Degrade};
use tokio::time::{Instant, timeout_at};

use super::{Jobs, Room, submit::Arriving};
use crate::{
    ApiError,
    admission::{Outcome, Permit, Waiting, Wanted, looks},
    idempotency::IdempotencyKey,
};

/// How urgent a request is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency {
    /// Until when somebody waits for the answer; `None`: nobody does.
    pub(crate) until: Option<Instant>,
    /// Who sent it: a digest of its key and address.
    pub(crate) caller: u64,
}

impl Urgency {
    /// Of a caller that waits for so long.
    pub(crate) fn of(patience: Duration, caller: u64) -> Self {
        Self { until: (!patience.is_zero()).then(|| Instant::now() + patience), caller }
    }

    /// For how long somebody will still wait.
    pub(crate) fn left(self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    fn class(self) -> Class {
        if self.until.is_some() { Class::Interactive } else { Class::Standard }
    }
}

/// What was found for a request.
#[derive(Debug)]
pub(super) enum Place {
    /// A worker.
    Now(Permit),
    /// A place among the pending jobs of this class; none where the process stops.
    Later(Option<Waiting>, Class),
    /// It needs no worker: an earlier job has the answer.
    Answered(Box<Job>),
}

impl Place {
    pub(super) fn class(&self, urgency: Urgency) -> Class {
        match self {
            Self::Now(_) | Self::Answered(_) => urgency.class(),
            Self::Later(_, class) => *class,
        }
    }
}

impl Jobs {
    /// Refuses at once, before anything of the body is read, what would be refused after it. A key that is known passes: its
    /// answer costs no worker.
    ///
    /// # Errors
    /// Where there is no room.
    pub(crate) async fn knock(
        &self,
        caller: &Principal,
        key: Option<&IdempotencyKey>,
        urgency: Urgency,
    ) -> Result<(), ApiError> {
        let (room, project) = (&self.0, caller.project);
        self.look(caller).await?;
        if let Err(over) = room.tools.quotas.arrive(caller, 1, room.until_an_end(caller))
            && !self.is_known(caller, key).await?
        {
            return Err(over.into());
        }
        let class = urgency.class();
        if room.admission.would_admit(project, class, class != Class::Interactive) {
            return Ok(());
        }
        if let Some(key) = key {
            let later = room.rules.admission.answer_later;
            if later && room.admission.would_admit(project, Class::Standard, true) {
                return Ok(());
            }
            if self.is_known(caller, Some(key)).await? {
                return Ok(());
            }
        }
        let promised = class != Class::Interactive;
        let wanted = Wanted { project, caller: urgency.caller, class, promised, service: 0.0 };
        Err(room.admission.turn_away(wanted).into())
    }

    /// Asks the database how many jobs the caller has, and how many units its month; only where it has a limit of those.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn look(&self, caller: &Principal) -> Result<(), ApiError> {
        let room = &self.0;
        let quotas = &room.tools.quotas;
        let Some(caps) = quotas.caps(caller) else { return Ok(()) };
        let whose = (caller.project, caller.key, caller.mode);
        quotas.note_held(caller, room.tools.store.held(whose, caps, room.now()).await?);
        Ok(())
    }

    async fn is_known(&self, caller: &Principal, key: Option<&IdempotencyKey>) -> Result<bool, ApiError> {
        let Some(key) = key else { return Ok(false) };
        Ok(self.key(caller, key).await?.is_some())
    }

    /// Finds a place for a request; one that somebody waits for may wait here for its turn. Less may be done for it than it
    /// asks, where it allows that.
    pub(super) async fn find_place(&self, arriving: &mut Arriving) -> Result<(Dedup, Place), ApiError> {
        let room = &self.0;
        let seen = room.seen(arriving).await?;
        let (dedup, reused) = room.reusable(&arriving.caller, seen).await?;
        if let Some(earlier) = reused {
            return Ok((dedup, Place::Answered(Box::new(earlier))));
        }
        let urgency = arriving.ask.urgency;
        if room.admission.wait(urgency.class()) >= room.rules.admission.degrade_after {
            arriving.degrade();
        }
        let wanted = Wanted {
            project: arriving.caller.project,
            caller: urgency.caller,
            class: urgency.class(),
            promised: urgency.until.is_none(),
            service: room.predict(arriving),
        };
        let place = match urgency.until {
            None => room.promised(wanted)?,
            Some(until) => room.turn(wanted, (until, arriving.idempotency.is_some())).await?,
        };
        // Of the images that came meanwhile nothing is known; what is known stays true.
        debug_assert!(dedup.status != DedupStatus::Reused, "nothing is run for it");
        Ok((dedup, place))
    }
}

impl Arriving {
    /// Looks less closely, where the request allows it and does not do so anyway.
    fn degrade(&mut self) {
        if self.frozen.degrade == Degrade::Never {
            return;
        }
        let (less, what) = self.frozen.clone().degraded();
        if !what.is_empty() {
            self.frozen = less;
            self.degraded = Some(Degraded { what, why: ErrorCode::TemporaryReducedCapacity });
        }
    }
}

impl Room {
    /// Seconds that a request will hold a worker.
    pub(super) fn predict(&self, arriving: &Arriving) -> f64 {
        let Arriving { checked, frozen, .. } = arriving;
        if let Some(course) = &checked.course {
            return self.predict_course(course, checked.input.megapixels.into());
        }
        self.admission.predict(looks(frozen, &checked.snapshots), checked.input.megapixels.into())
    }

    /// Waits for a worker as long as the caller does; then it is a job like any other.
    async fn turn(&self, wanted: Wanted, (until, keyed): (Instant, bool)) -> Result<Place, ApiError> {
        let refusal = match self.admission.enter(wanted) {
            Err(refusal) => refusal,
            Ok(mut waiting) => match timeout_at(until, waiting.outcome()).await {
                Err(_) => return Ok(Place::Later(Some(waiting), wanted.class)),
                Ok(Outcome::Admitted(permit)) => return Ok(Place::Now(permit)),
                Ok(Outcome::Closed) => return Ok(Place::Later(None, Class::Standard)),
                Ok(Outcome::Refused(refusal)) => refusal,
            },
        };
        if keyed && self.rules.admission.answer_later {
            return self.later(wanted, refusal);
        }
        Err(refusal.into())
    }

    /// A request with a key that finds the machine full is done later. Without a key it is refused: who retries would leave
    /// a job behind each time.
    fn later(&self, wanted: Wanted, refusal: Refusal) -> Result<Place, ApiError> {
        let place = self.promised(Wanted { class: Class::Standard, promised: true, ..wanted });
        let place = place.map_err(|_| refusal)?;
        self.admission.answered_later();
        Ok(place)
    }

    fn promised(&self, wanted: Wanted) -> Result<Place, Refusal> {
        let mut waiting = self.admission.enter(wanted)?;
        Ok(match waiting.at_once() {
            Some(permit) => Place::Now(permit),
            None => Place::Later(Some(waiting), wanted.class),
        })
    }

    /// A job was accepted that has no worker yet: here and elsewhere one is found for it.
    pub(super) fn wait_in_line(&self, waiting: Option<Waiting>, line: Line) {
        match waiting {
            Some(waiting) => waiting.keep(line),
            None => self.wake_here(),
        }
        self.tools.store.tell(eyebolt_store::Signal::Pending);
    }
}
