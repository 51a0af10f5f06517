//! The room "quotas": what was agreed with a project, and what is left of it. Refusing here says "you", not "we": the
//! machine may be idle.
//!
//! What is counted by time is counted in memory or in Redis (`counters.rs`, `redis.rs`, `sharing.rs`); jobs at once and units
//! of a month are decided by the transaction that accepts a job (`held.rs`).

mod counters;
mod exceeded;
mod held;
mod leaving;
mod limit;
mod notices;
mod redis;
mod refusals;
mod settings;
mod sharing;
mod standing;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use eyebolt_store::{Caps, Held, Month, Overrun, Principal};
use eyebolt_types::{Clock, Counting, Policy};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use self::{
    counters::{Cost, Counted, Memory, Over, decisions, standing},
    exceeded::{exceeded, lasts},
    held::Seen,
    limit::{Limit, limits},
    notices::Notices,
    redis::Redis,
    sharing::{Manners, Sharing},
    standing::{is_warned, stands},
};
pub use self::{
    exceeded::Exceeded,
    notices::{Refused, Warning},
    settings::{HeaderFields, QuotaSettings},
    standing::{Standing, Told},
};
pub(crate) use self::{leaving::leaving, refusals::Refusals};

/// What was taken for a request: given back when dropped, unless it was spent.
#[derive(Debug)]
#[must_use = "what is not spent is given back"]
pub struct Taken {
    quotas: Quotas,
    costs: Vec<Cost>,
}

impl Taken {
    /// It was used.
    pub fn spend(mut self) {
        self.costs.clear();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let costs = std::mem::take(&mut self.costs);
        if costs.is_empty() {
            return;
        }
        match (&self.quotas.0.counters, tokio::runtime::Handle::try_current()) {
            (Place::Here(memory), _) => memory.give_back_now(&costs),
            (Place::Shared(shared), Ok(runtime)) => {
                let shared = Arc::clone(shared);
                runtime.spawn(async move { shared.give_back(&costs).await });
            }
            // The process ends; it leaks out.
            (Place::Shared(_), Err(_)) => {}
        }
    }
}

/// A request that may become a job: counted as one meanwhile, so that nobody waits for a place that others will have.
#[derive(Debug)]
pub(crate) struct Arriving {
    quotas: Quotas,
    caller: Principal,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.quotas.0.seen.has_arrived(&self.caller);
    }
}

/// Why there are no such counters.
#[derive(Debug, Error)]
#[error("quotas.counters_url can't be used")]
pub struct BadCounters;

/// The limits of all projects. Cheap to clone; every clone counts in the same place.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: RwLock<Arc<QuotaSettings>>,
    counters: Place,
    seen: Seen,
    notices: Notices,
    refused: refusals::Counted,
    clock: Clock,
}

/// Where it is counted.
#[derive(Debug)]
enum Place {
    Here(Memory),
    Shared(Arc<Sharing<Redis>>),
}

impl Quotas {
    /// Nothing is used yet, but for what shared counters know.
    ///
    /// # Errors
    /// Where the address of the counters can't be one. Counters that don't answer are no error.
    pub async fn open(settings: QuotaSettings, clock: Clock) -> Result<Self, BadCounters> {
        let url = settings.counters_url.reveal();
        let counters = if url.is_empty() {
            Place::Here(Memory::new(clock.clone()))
        } else {
            let redis = Redis::new(url, &settings.counters_prefix).map_err(|_| BadCounters)?;
            let manners = Manners { patience: settings.counters_timeout, share: settings.fallback_share };
            let shared = Sharing::new(redis, manners, clock.clone());
            shared.seek().await;
            Place::Shared(shared)
        };
        let (seen, notices) = (Seen::default(), Notices::default());
        let settings = RwLock::new(Arc::new(settings));
        let refused = refusals::Counted::default();
        Ok(Self(Arc::new(Inner { settings, counters, seen, notices, refused, clock })))
    }

    /// Other settings are in force from now on. Where the counters are is found only by a new start: then a sentence that
    /// says so.
    pub fn reload(&self, settings: QuotaSettings) -> Option<&'static str> {
        let mut kept = self.0.settings.write().unwrap_or_else(PoisonError::into_inner);
        let elsewhere = settings.counts_elsewhere(&kept);
        *kept = Arc::new(settings);
        drop(kept);
        self.0.seen.doubt();
        elsewhere.then_some("quotas.counters_* and quotas.fallback_share need a new start")
    }

    /// What is in force.
    pub fn settings(&self) -> Arc<QuotaSettings> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether several servers count together now; none where they never do.
    pub fn shared(&self) -> Option<bool> {
        match &self.0.counters {
            Place::Here(_) => None,
            Place::Shared(shared) => Some(!shared.is_away()),
        }
    }

    /// The plan of a caller's project.
    pub fn plan(&self, caller: &Principal) -> String {
        limit::plan(&self.settings(), caller).to_owned()
    }

    /// Takes this much of each policy, or nothing; `told` learns how all limits stand. Megapixels come in thousandths.
    ///
    /// # Errors
    /// Where a limit is used up; of several, the one that lasts longest.
    pub async fn take(
        &self,
        caller: &Principal,
        wanted: &[(Policy, u64)],
        told: &Told,
    ) -> Result<Taken, Exceeded> {
        let settings = self.settings();
        let units = |policy| wanted.iter().find(|(named, _)| *named == policy).map_or(0, |(_, units)| *units);
        let costs: Vec<_> =
            limits(&settings, caller).filter_map(|limit| limit.cost(caller, units(limit.policy))).collect();
        let nothing = || Taken { quotas: self.clone(), costs: Vec::new() };
        if costs.is_empty() || (costs.iter().all(|cost| cost.units == 0) && told.get().is_some()) {
            return Ok(nothing());
        }
        let over = if settings.shadow { Over::TakeLeft } else { Over::Refuse };
        let counted = self.count(&costs, over).await;
        told.set(
            standing(&costs, &counted, over).map(|(cost, left)| stands(cost, left, &settings)).collect(),
        );
        let refused = decisions(&costs, &counted).filter(|(_, decision)| !decision.admitted);
        let Some(exceeded) = refused.map(exceeded).max_by_key(lasts) else {
            return Ok(Taken { quotas: self.clone(), costs });
        };
        self.refuse(caller, exceeded, settings.shadow).map_or(Ok(nothing()), Err)
    }

    async fn count(&self, costs: &[Cost], over: Over) -> Vec<Counted> {
        match &self.0.counters {
            Place::Here(memory) => memory.take_now(costs, over),
            Place::Shared(shared) => shared.take(costs, over).await,
        }
    }

    /// None where limits only count.
    fn refuse(&self, caller: &Principal, mut exceeded: Exceeded, shadow: bool) -> Option<Exceeded> {
        let resets_in = exceeded.retry_in.and_then(|wait| SignedDuration::try_from(wait).ok());
        exceeded.resets_at = resets_in.and_then(|wait| self.0.clock.now().checked_add(wait).ok());
        self.0.refused.add(exceeded.policy, shadow);
        let (policy, scope) = (exceeded.policy.name(), exceeded.scope.name());
        tracing::info!(project = %caller.project, key = %caller.key, policy, scope, shadow, "over the limit");
        (!shadow).then_some(exceeded)
    }

    /// How often somebody was over a limit.
    pub(crate) fn refusals(&self) -> Refusals {
        self.0.refused.read()
    }

    /// The limits under which a job of this caller is accepted.
    pub(crate) fn caps(&self, caller: &Principal) -> Option<Caps> {
        let settings = self.settings();
        let limits = limits(&settings, caller);
        self.0.seen.caps(caller, limits, (settings.shadow, self.0.clock.now()))
    }

    /// A job of so many units was accepted under these limits.
    pub(crate) fn accepted(&self, caller: &Principal, caps: Option<Caps>, units: u64) {
        if let Some(caps) = caps {
            self.0.seen.trust(caller, &caps, self.0.clock.now());
            self.0.seen.add(caller, units);
        }
    }

    /// What the database told of such limits.
    pub(crate) fn note_held(&self, caller: &Principal, held: (Held, Held)) {
        self.0.seen.note(caller, held, self.0.clock.now());
    }

    /// Whether the database is to be asked for what a caller has of such limits.
    pub(crate) fn is_stale(&self, caller: &Principal) -> bool {
        self.caps(caller).is_some() && !self.0.seen.is_fresh(caller, self.0.clock.now())
    }

    /// A place for a job of so many units, before anybody waits for a worker. `wait`: until a job of the project may end.
    ///
    /// # Errors
    /// Where the database would refuse it, as far as it is known.
    pub(crate) fn arrive(
        &self,
        caller: &Principal,
        units: u64,
        wait: Duration,
    ) -> Result<Option<Arriving>, Exceeded> {
        let settings = self.settings();
        let held =
            limits(&settings, caller).filter(|limit| !matches!(limit.policy.counting(), Counting::Rate(_)));
        let mut found = false;
        for Limit { scope, policy, value: limit } in held {
            found = true;
            let seen = self.0.seen.of(caller, scope).unwrap_or_default();
            let (taken, needed) = match policy {
                Policy::ConcurrentJobs => {
                    (seen.jobs.map(|jobs| jobs + self.0.seen.arriving(caller, scope)), 1)
                }
                _ => (seen.units, units),
            };
            let taken = taken.unwrap_or(0);
            if taken.saturating_add(needed) > limit
                && let Some(exceeded) =
                    self.over(caller, Overrun { scope, policy, limit, taken, needed }, wait)
            {
                return Err(exceeded);
            }
        }
        Ok(found.then(|| {
            self.0.seen.arrive(caller);
            Arriving { quotas: self.clone(), caller: caller.clone() }
        }))
    }

    /// What is told of a limit that the database decided. None where limits only count.
    pub(crate) fn over(&self, caller: &Principal, overrun: Overrun, wait: Duration) -> Option<Exceeded> {
        let Overrun { scope, policy, limit, taken, needed } = overrun;
        let retry_in = (needed <= limit).then(|| match policy.counting() {
            Counting::Month => self.until_next_month(),
            _ => wait.max(LEAST_WAIT),
        });
        let remaining = limit.saturating_sub(taken);
        let exceeded = Exceeded { scope, policy, limit, remaining, needed, retry_in, resets_at: None };
        let mut refused = self.refuse(caller, exceeded, self.settings().shadow)?;
        if policy.counting() == Counting::AtOnce {
            // Nobody knows when a job ends.
            refused.resets_at = None;
        }
        Some(refused)
    }

    fn until_next_month(&self) -> Duration {
        let now = self.0.clock.now();
        Duration::try_from(Month::of(now).ends.duration_since(now)).unwrap_or_default()
    }

    /// How every limit of a caller stands, by policy: as this request was told, where it asked, so that nothing is asked
    /// twice. What the database decides is told as it was last seen.
    pub async fn standing(&self, caller: &Principal, told: &Told) -> Vec<Standing> {
        if told.get().is_none() {
            // Taking nothing refuses nothing.
            _ = self.take(caller, &[], told).await;
        }
        let settings = self.settings();
        let held = limits(&settings, caller).filter_map(|limit| self.stands_held(caller, limit, &settings));
        let mut all = told.get().unwrap_or_default();
        all.extend(held);
        all.sort_by_key(|stands| (stands.scope, stands.policy));
        all
    }

    fn stands_held(&self, caller: &Principal, limit: Limit, settings: &QuotaSettings) -> Option<Standing> {
        let seen = self.0.seen.of(caller, limit.scope)?;
        let Limit { scope, policy, value: limit } = limit;
        let (taken, window, next_in) = match policy.counting() {
            Counting::Rate(_) => return None,
            Counting::AtOnce => (seen.jobs?, None, None),
            Counting::Month => {
                let Month { begins, ends } = Month::of(self.0.clock.now());
                let month = Duration::try_from(ends.duration_since(begins)).ok();
                (seen.units?, month, Some(self.until_next_month()))
            }
        };
        let remaining = limit.saturating_sub(taken);
        let warned = is_warned(limit, remaining, settings);
        Some(Standing { scope, policy, limit, remaining, window, next_in, full_in: next_in, warned })
    }

    /// Records and logs the limits that are nearly used up: each once in its window.
    pub(crate) fn warn(&self, caller: &Principal, standing: &[Standing]) {
        for stands in standing.iter().filter(|stands| stands.warned && stands.limit > 0) {
            if self.0.notices.warn(caller, stands, self.0.clock.now()) {
                let Standing { policy, scope, limit, remaining, .. } = *stands;
                let (policy, scope, used) = (policy.name(), scope.name(), stands.percent());
                tracing::warn!(event = "limit.warning", project = %caller.project, key = %caller.key, mode = caller.mode.name(), policy, scope, limit, remaining, used, "a limit is nearly used up");
            }
        }
    }

    /// Records a refusal for a limit or for load.
    pub(crate) fn record(&self, caller: &Principal, refused: impl FnOnce(Timestamp) -> Refused) {
        self.0.notices.refuse(caller, refused(self.0.clock.now()));
    }

    /// Recent warnings and refusals of a caller's project and mode, newest first.
    pub fn notices(&self, caller: &Principal) -> (Vec<Warning>, Vec<Refused>) {
        self.0.notices.of(caller)
    }
}

/// A job ends when it ends; asking more often than this tells nothing new.
pub(crate) const LEAST_WAIT: Duration = Duration::from_secs(1);

/// Rounded up: whoever waits so long has waited long enough.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
