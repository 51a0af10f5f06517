//! Sending what is due. An endpoint is leased by one process at a time, which sends all that is due to it: so its limits
//! hold for all servers together, and a slow receiver holds up nobody but itself.

use std::{sync::Arc, time::Duration};

use eyebolt_store::{Lease, LeasedEndpoint, StoreError};
use eyebolt_types::id::ProjectId;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::SignedDuration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Room, Webhooks, pump::Pump, share::Shares};

/// How often somebody looks for what is due: retries whose time comes, and what nobody told of.
pub(super) const POLL: Duration = Duration::from_millis(250);

/// What is told within such a time is looked for together.
pub(super) const TOGETHER: Duration = Duration::from_millis(10);

/// After a failure of the store.
pub(super) const REST: Duration = Duration::from_millis(500);

/// How long an endpoint stays with a process that gives no sign of life. In a build for crash tests so short that a process which
/// is stopped finds another one in its place.
pub(super) const LEASE: SignedDuration =
    if cfg!(feature = "torture") { SignedDuration::from_secs(2) } else { SignedDuration::from_secs(60) };

/// Endpoints that are looked at to find those that are next. Projects take turns there too: four times as many of them as there are
/// pumps have one among these.
const LOOKED_AT: u32 = 512;

/// How long a stopping process waits for answers that are under way.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

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
        let mut pumps: FuturesUnordered<BoxFuture<'static, ProjectId>> = FuturesUnordered::new();
        let (mut shares, mut look_at) = (Shares::default(), Instant::now() + POLL);
        loop {
            tokio::select! {
                biased;
                () = self.halting.cancelled() => break,
                Some(project) = pumps.next() => {
                    shares.end(project);
                    if !self.crowd().is_empty() {
                        look_at = look_at.min(Instant::now() + TOGETHER);
                    }
                    continue;
                }
                _ = news.recv() => sleep(TOGETHER).await,
                () = sleep_until(look_at) => {}
            }
            // All that was told so far is looked for at once.
            news = news.resubscribe();
            match self.claim(&shares).await {
                Ok(leased) => {
                    for one in leased {
                        shares.begin(one.endpoint.project);
                        pumps.push(Arc::clone(&self).pump(one).boxed());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "webhook endpoints could not be looked for");
                    sleep(REST).await;
                }
            }
            look_at = Instant::now() + POLL;
        }
        while pumps.next().await.is_some() {}
    }

    /// Leases those whose turn it is of what something is due to.
    async fn claim(&self, shares: &Shares) -> Result<Vec<LeasedEndpoint>, StoreError> {
        // Mostly there is nothing to do, which needs no transaction.
        let due = self.store.due_endpoints(LOOKED_AT, self.now()).await?;
        let chosen = shares.choose(&due);
        *self.crowd() = chosen.crowd;
        if chosen.begin.is_empty() {
            return Ok(Vec::new());
        }
        self.store.claim_endpoints(chosen.begin, self.lease(), self.now()).await
    }

    async fn pump(self: Arc<Self>, leased: LeasedEndpoint) -> ProjectId {
        let (id, token, project) = (leased.endpoint.id, leased.token, leased.endpoint.project);
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
        project
    }
}
