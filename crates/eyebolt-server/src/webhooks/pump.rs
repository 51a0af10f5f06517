//! One endpoint while this process sends to it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eyebolt_store::{DeliveryAttempt, DueDelivery, Endpoint, EndpointKind, EndpointState, LeasedEndpoint};
use eyebolt_types::id::{EventId, ProjectId};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::SignedDuration;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, timeout},
};

use super::{
    Room, WebhookError,
    dispatch::{FAREWELL, LEASE, POLL, TOGETHER},
    lane::{Begun, FRESH, Lane, Offer},
    pace::Turns,
    schedule::{Health, Outcome, Rules},
    tried::Tried,
};

/// How often a pump gives a sign of life.
const KEPT_EVERY: Duration =
    if cfg!(feature = "torture") { Duration::from_millis(500) } else { Duration::from_secs(15) };

/// How often one looks that has nothing to begin. What is told it takes at once.
const QUIET: Duration = Duration::from_secs(1);

/// Of two attempts. In a build for crash tests all of them are over within a run.
const LONGEST_PAUSE: SignedDuration =
    if cfg!(feature = "torture") { SignedDuration::from_secs(1) } else { SignedDuration::MAX };

/// Deliveries that are looked at, of the backlog and of what is new.
const BACKLOG: u32 = 16;
const NEW: u32 = 64;

/// What comes of a step of a lane.
enum Done {
    Sent(Box<(DueDelivery, DeliveryAttempt, Outcome)>),
    Settled(EventId, bool),
}

/// A lane with what is on its way.
pub(super) struct Pump {
    room: Arc<Room>,
    endpoint: Endpoint,
    token: i64,
    began: Instant,
    lane: Lane,
    turns: Turns,
    /// As the row says, with what is being written down.
    health: Health,
    settling: usize,
    kept_at: Instant,
    /// Somebody else has the lease: what is read here is being sent there.
    lost: bool,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Pump {
    pub(super) fn new(room: &Arc<Room>, LeasedEndpoint { endpoint, token }: LeasedEndpoint) -> Self {
        let settings = &room.settings;
        Self {
            lane: Lane::new(settings.concurrency, settings.backlog_per_second),
            turns: room.paces.of(endpoint.id, Instant::now()),
            health: Health::of(&endpoint),
            settling: 0,
            began: Instant::now(),
            kept_at: Instant::now(),
            lost: false,
            under_way: FuturesUnordered::new(),
            room: Arc::clone(room),
            endpoint,
            token,
        }
    }

    /// Sends until nothing is due any more, somebody else's turn has come, the lease is lost or the process stops.
    pub(super) async fn run(mut self) -> Result<(), WebhookError> {
        let mut news = self.room.store.news();
        loop {
            if self.lost {
                return Ok(());
            }
            let Some(due) = self.due().await? else { return Ok(()) };
            let over = self.room.crowd().ends(self.endpoint.project, self.began.elapsed());
            if !over {
                self.begin(&due).await?;
            }
            let left = !over && due.iter().any(|delivery| !self.lane.has(delivery.event));
            if self.under_way.is_empty() && !left {
                return Ok(());
            }
            if self.throttled() && self.under_way.is_empty() {
                return Ok(());
            }
            if self.rest(&mut news, left).await {
                return self.finish().await;
            }
            // All that was told so far is looked for at once.
            news = news.resubscribe();
        }
    }

    /// Takes what comes of what is under way until there may be something to begin; whether the process stops.
    /// `left`: something is due that was not begun.
    async fn rest(&mut self, news: &mut Receiver<ProjectId>, left: bool) -> bool {
        let (room, project) = (Arc::clone(&self.room), self.endpoint.project);
        let look = sleep(self.pause(left));
        tokio::pin!(look);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                () = room.halting.cancelled() => return true,
                Some(done) = self.under_way.next() => {
                    if self.take(done) {
                        return false;
                    }
                }
                // Nobody waits here for what is told together: what is under way goes on meanwhile.
                () = told_of(news, project), if !told && !self.lane.is_full() => {
                    told = true;
                    let soon = Instant::now() + TOGETHER;
                    if look.deadline() > soon {
                        look.as_mut().reset(soon);
                    }
                }
                () = &mut look => return false,
            }
        }
    }

    fn throttled(&self) -> bool {
        self.health.throttled_until.is_some_and(|until| until > self.room.now())
    }

    /// What is due; `None` where the lease is lost or the endpoint gone.
    async fn due(&mut self) -> Result<Option<Vec<DueDelivery>>, WebhookError> {
        let (store, now, id) = (&self.room.store, self.room.now(), self.endpoint.id);
        // It may have been changed, switched off or removed meanwhile.
        let whose = (self.endpoint.project, self.endpoint.mode);
        let Some(endpoint) = store.endpoint(whose, id).await? else { return Ok(None) };
        self.endpoint = endpoint;
        if self.settling == 0 {
            self.health = Health::of(&self.endpoint);
        }
        if self.endpoint.state != EndpointState::Enabled {
            // What is on its way to it is waited for, and the lease outlasts that.
            return Ok(Some(Vec::new()));
        }
        if self.kept_at.elapsed() >= KEPT_EVERY {
            self.kept_at = Instant::now();
            if store.keep_endpoint((id, self.token), now + LEASE).await?.is_none() {
                return Ok(None);
            }
        }
        let mut due = store.due_deliveries(id, (None, now), BACKLOG).await?;
        if due.len() as u32 == BACKLOG {
            due.extend(store.due_deliveries(id, (Some(now - FRESH), now), NEW).await?);
        }
        Ok(Some(due))
    }

    /// Begins as many as may be.
    async fn begin(&mut self, due: &[DueDelivery]) -> Result<(), WebhookError> {
        let now = self.room.now();
        let by_event: HashMap<_, _> = due.iter().map(|one| (one.event, one)).collect();
        let offer = |one: &DueDelivery| Offer {
            event: one.event,
            attempts: one.attempts,
            due_at: one.due_at,
            recorded_at: one.recorded_at,
        };
        // What is both old and new stands there twice, and is begun once.
        let offers: Vec<_> = due.iter().map(offer).collect();
        let mut secrets = None;
        while let Some(Begun { event, paced }) = self.lane.begin(&offers, self.health.throttled_until, now) {
            let secrets = match &secrets {
                Some(known) => Arc::clone(known),
                None => Arc::clone(secrets.insert(Arc::new(self.room.secrets(&self.endpoint).await?))),
            };
            let delivery = by_event[&event].clone();
            let url = delivery.url.clone().unwrap_or_else(|| self.endpoint.url.clone());
            let (room, turns) = (Arc::clone(&self.room), paced.then(|| self.turns.clone()));
            self.under_way.push(
                async move {
                    crate::failpoint::hit("before_delivery");
                    let (attempt, outcome) = room.send((url, turns), (&delivery, &secrets)).await;
                    Done::Sent(Box::new((delivery, attempt, outcome)))
                }
                .boxed(),
            );
        }
        Ok(())
    }

    /// Takes what came of a step; whether there is room for another delivery now.
    fn take(&mut self, done: Done) -> bool {
        let (delivery, attempt, outcome) = match done {
            Done::Sent(sent) => *sent,
            Done::Settled(event, held) => {
                self.lost |= !held;
                self.settling -= 1;
                self.lane.end(event);
                return true;
            }
        };
        if matches!(outcome, Outcome::Answer { status: 200..=299, .. }) {
            // Whoever took it is told again.
            crate::failpoint::hit("before_delivery_settled");
        }
        let event = delivery.event;
        let tried = self.tried(&delivery, (outcome, attempt.url.clone()));
        let settled = tried.settle(self.as_known());
        self.health = Health::of(&settled.endpoint);
        self.settling += 1;
        tracing::debug!(
            endpoint = %self.endpoint.id, %event, status = attempt.status, error = attempt.error,
            "a webhook was {}", settled.state.name()
        );
        let (room, lease) = (Arc::clone(&self.room), (self.endpoint.id, self.token));
        self.under_way.push(
            async move { Done::Settled(event, room.settle(lease, (event, attempt), tried).await) }.boxed(),
        );
        false
    }

    fn tried(&self, delivery: &DueDelivery, (outcome, url): (Outcome, String)) -> Tried {
        let disable_after = SignedDuration::try_from(self.room.settings.disable_after);
        let own = self.endpoint.kind == EndpointKind::Own;
        let rules = Rules {
            disable_after: own.then_some(disable_after.unwrap_or(SignedDuration::MAX)),
            longest_pause: LONGEST_PAUSE,
        };
        let (at, chance) = (self.room.now(), crate::chance::roll());
        Tried { url, outcome, attempts: delivery.attempts, rules, at, chance }
    }

    /// The endpoint, with what was not written down yet.
    fn as_known(&self) -> Endpoint {
        let Health { state, disabled_at, failing_since, throttled_until } = self.health;
        Endpoint { state, disabled_at, failing_since, throttled_until, ..self.endpoint.clone() }
    }

    fn pause(&self, left: bool) -> Duration {
        if self.lane.is_full() {
            // Whatever is due waits for an answer.
            return KEPT_EVERY;
        }
        if !left {
            return QUIET.min(KEPT_EVERY);
        }
        let pause = Duration::try_from(self.lane.pause(self.room.now())).unwrap_or_default();
        if pause.is_zero() { POLL } else { pause.min(POLL) }
    }

    /// Waits for what is under way, and begins nothing more.
    async fn finish(mut self) -> Result<(), WebhookError> {
        let rest = async {
            while let Some(done) = self.under_way.next().await {
                self.take(done);
            }
        };
        // What takes longer is sent again by whoever comes after, with the same id.
        _ = timeout(FAREWELL, rest).await;
        Ok(())
    }
}

/// Resolves where this project has news, or something was missed.
async fn told_of(news: &mut Receiver<ProjectId>, project: ProjectId) {
    loop {
        match news.recv().await {
            Ok(one) if one == project => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
