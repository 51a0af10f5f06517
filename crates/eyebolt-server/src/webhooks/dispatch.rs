//! Sending what is due. An endpoint is leased by one process at a time, which sends all that is due to it: so its limits
//! hold for all servers together, and a slow receiver holds up nobody but itself.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eyebolt_store::{
    DeliveryAttempt, DueDelivery, Endpoint, EndpointKind, EndpointState, Lease, LeasedEndpoint, Settlement,
    StoreError,
};
use eyebolt_types::id::{EndpointId, EventId, ProjectId};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::SignedDuration;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, timeout},
};

use super::{
    Room, WebhookError, Webhooks,
    lane::{Begun, FRESH, Lane, Offer},
    pace::Turns,
    schedule::{self, Health, Outcome, Rules},
};

/// How often somebody looks for what is due: retries whose time comes, and what nobody told of.
const POLL: Duration = Duration::from_millis(250);

/// What is told within such a time is looked for together.
const TOGETHER: Duration = Duration::from_millis(10);

/// After a failure of the store.
pub(super) const REST: Duration = Duration::from_millis(500);

/// How long an endpoint stays with a process that gives no sign of life, and when it gives one. In a build for crash tests
/// so short that a process which is stopped finds another one in its place.
const LEASE: SignedDuration =
    if cfg!(feature = "torture") { SignedDuration::from_secs(2) } else { SignedDuration::from_secs(60) };
const KEPT_EVERY: Duration =
    if cfg!(feature = "torture") { Duration::from_millis(500) } else { Duration::from_secs(15) };

/// Of two attempts. In a build for crash tests all of them are over within a run.
const LONGEST_PAUSE: SignedDuration =
    if cfg!(feature = "torture") { SignedDuration::from_secs(1) } else { SignedDuration::MAX };

/// Endpoints that one process sends to at once.
const ENDPOINTS: usize = 64;

/// Deliveries that are looked at, of the backlog and of what is new.
const BACKLOG: u32 = 16;
const NEW: u32 = 64;

/// How long a stopping process waits for answers that are under way.
const FAREWELL: Duration = Duration::from_secs(2);

impl Webhooks {
    /// Takes back what an earlier run of this process left behind, and begins to send.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn start(&self) -> Result<(), StoreError> {
        let room = &self.0;
        room.store.take_back_endpoints(&room.instance).await?;
        room.spawn(Arc::clone(room).dispatch());
        Ok(())
    }

    /// Begins nothing more, and waits for what is under way, within bounds.
    pub async fn halt(&self) {
        self.0.halting.cancel();
        self.0.tasks.close();
        _ = timeout(FAREWELL * 2, self.0.tasks.wait()).await;
        self.0.abandoned.cancel();
    }

    /// Drops everything where it stands, as a crash does: leases stay.
    pub fn abandon(&self) {
        self.0.abandoned.cancel();
    }
}

/// What comes of a step of a lane.
enum Done {
    Sent(Box<(DueDelivery, DeliveryAttempt, Outcome)>),
    Settled(EventId, bool),
}

/// One endpoint while this process sends to it.
struct Pump {
    room: Arc<Room>,
    endpoint: Endpoint,
    token: i64,
    lane: Lane,
    turns: Turns,
    health: Health,
    kept_at: Instant,
    /// Somebody else has the lease: what is read here is being sent there.
    lost: bool,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Room {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let abandoned = self.abandoned.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = abandoned.cancelled() => {}
            }
        });
    }

    fn lease(&self) -> Lease {
        Lease { owner: self.owner.clone(), until: self.now() + LEASE }
    }

    async fn dispatch(self: Arc<Self>) {
        let mut news = self.store.news();
        let mut pumps: FuturesUnordered<BoxFuture<'static, EndpointId>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = self.halting.cancelled() => break,
                Some(_) = pumps.next() => continue,
                _ = news.recv() => sleep(TOGETHER).await,
                () = sleep(POLL) => {}
            }
            // All that was told so far is looked for at once.
            news = news.resubscribe();
            let room = ENDPOINTS.saturating_sub(pumps.len());
            if room == 0 {
                continue;
            }
            match self.store.claim_endpoints(self.lease(), room as u32, self.now()).await {
                Ok(leased) => {
                    pumps.extend(leased.into_iter().map(|leased| Arc::clone(&self).pump(leased).boxed()));
                }
                Err(error) => {
                    tracing::warn!(%error, "webhook endpoints could not be looked for");
                    sleep(REST).await;
                }
            }
        }
        while pumps.next().await.is_some() {}
    }

    async fn pump(self: Arc<Self>, leased: LeasedEndpoint) -> EndpointId {
        let (id, token) = (leased.endpoint.id, leased.token);
        let pumped = Pump::new(&self, leased).run().await;
        let released = match pumped {
            Ok(()) => self.store.release_endpoint((id, token)).await,
            Err(error) => {
                tracing::warn!(endpoint = %id, %error, "deliveries are interrupted");
                sleep(REST).await;
                self.store.release_endpoint((id, token)).await
            }
        };
        if let Err(error) = released {
            tracing::debug!(endpoint = %id, %error, "a lease runs out by itself");
        }
        id
    }
}

impl Pump {
    fn new(room: &Arc<Room>, LeasedEndpoint { endpoint, token }: LeasedEndpoint) -> Self {
        let settings = &room.settings;
        Self {
            lane: Lane::new(settings.concurrency, settings.backlog_per_second),
            turns: room.paces.of(endpoint.id, Instant::now()),
            health: health(&endpoint),
            kept_at: Instant::now(),
            lost: false,
            under_way: FuturesUnordered::new(),
            room: Arc::clone(room),
            endpoint,
            token,
        }
    }

    /// Sends until nothing is due any more, the lease is lost or the process stops.
    async fn run(mut self) -> Result<(), WebhookError> {
        let mut news = self.room.store.news();
        loop {
            if self.lost {
                return Ok(());
            }
            let Some(due) = self.due().await? else { return Ok(()) };
            self.begin(&due).await?;
            let left = due.iter().any(|delivery| !self.lane.has(delivery.event));
            if self.under_way.is_empty() && !left {
                return Ok(());
            }
            if self.throttled() && self.under_way.is_empty() {
                return Ok(());
            }
            if self.rest(&mut news).await {
                return self.finish().await;
            }
            // All that was told so far is looked for at once.
            news = news.resubscribe();
        }
    }

    /// Takes what comes of what is under way until there may be something to begin; whether the process stops.
    async fn rest(&mut self, news: &mut Receiver<ProjectId>) -> bool {
        let (room, project) = (Arc::clone(&self.room), self.endpoint.project);
        let look = sleep(self.pause());
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

    /// What is due; `None` where the lease is lost, or the endpoint gone or off.
    async fn due(&mut self) -> Result<Option<Vec<DueDelivery>>, WebhookError> {
        let (store, now, id) = (&self.room.store, self.room.now(), self.endpoint.id);
        if self.kept_at.elapsed() >= KEPT_EVERY {
            self.kept_at = Instant::now();
            if store.keep_endpoint((id, self.token), now + LEASE).await?.is_none() {
                return Ok(None);
            }
        }
        // It may have been changed, switched off or removed meanwhile.
        let whose = (self.endpoint.project, self.endpoint.mode);
        match store.endpoint(whose, id).await? {
            Some(endpoint) if endpoint.state == EndpointState::Enabled => self.endpoint = endpoint,
            _ => return Ok(None),
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
                self.lane.end(event);
                return true;
            }
        };
        if matches!(outcome, Outcome::Answer { status: 200..=299, .. }) {
            // Whoever took it is told again.
            crate::failpoint::hit("before_delivery_settled");
        }
        let settings = &self.room.settings;
        let disable_after = SignedDuration::try_from(settings.disable_after).unwrap_or(SignedDuration::MAX);
        let own = self.endpoint.kind == EndpointKind::Own;
        let rules = Rules { disable_after: own.then_some(disable_after), longest_pause: LONGEST_PAUSE };
        let (now, was) = (self.room.now(), self.health.state);
        let chance = crate::chance::roll();
        let verdict = schedule::judge(outcome, (delivery.attempts, self.health), rules, (now, chance));
        self.health = verdict.health;
        if self.health.state != was {
            // The alert: what the operator's log watch looks for.
            tracing::error!(
                endpoint = %self.endpoint.id, project = %self.endpoint.project, state = self.health.state.name(),
                "webhook endpoint disabled"
            );
        }
        let endpoint = Endpoint {
            state: self.health.state,
            disabled_at: self.health.disabled_at,
            failing_since: self.health.failing_since,
            throttled_until: self.health.throttled_until,
            ..self.endpoint.clone()
        };
        let event = delivery.event;
        tracing::debug!(
            endpoint = %endpoint.id, %event, status = attempt.status, error = attempt.error,
            "a webhook was {}", verdict.state.name()
        );
        let (state, next_at) = (verdict.state, verdict.next_at);
        let settled = Settlement { event, attempt, state, next_at, endpoint };
        let (room, lease) = (Arc::clone(&self.room), (self.endpoint.id, self.token));
        self.under_way.push(async move { Done::Settled(event, room.settle(lease, settled).await) }.boxed());
        false
    }

    fn pause(&self) -> Duration {
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

fn health(endpoint: &Endpoint) -> Health {
    Health {
        state: endpoint.state,
        disabled_at: endpoint.disabled_at,
        failing_since: endpoint.failing_since,
        throttled_until: endpoint.throttled_until,
    }
}
