//! The room "webhooks": who wants to be told, with what it is signed, and what was told.
//!
//! What is to be told is a row, written with the fact itself. `dispatch` leases endpoints and sends what is due to them;
//! `lane` says what is sent next, `schedule` what follows from an answer: both are pure. A receiver may get a message
//! twice, always with the same id: after a crash between the answer and its row, or an answer that came too late.

mod dispatch;
mod lane;
mod schedule;
mod sealing;
mod settings;
mod signature;
mod view;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eyebolt_store::{
    Creation, DeliveryFilter, DeliveryState, Endpoint, EndpointChange, EndpointKind, NewEndpoint, NewEvent,
    Principal, SealedSecret, SecretOwner, Store, StoreError, StoredDelivery, ToldAt,
};
use eyebolt_types::{
    Clock, EndpointEvent, EventData, EventType, Mode,
    id::{EndpointId, EventId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{sealing::Sealer, signature::Secret};
pub use self::{
    settings::WebhookSettings,
    signature::Scheme,
    view::{
        AttemptView, DeletedEndpoint, DeliveryList, DeliveryStatus, DeliveryView, EndpointList, EndpointView,
        NewEndpointView, ReplayView, SecretView,
    },
};
use crate::{Outbound, Place, events, outbound::AddressError};

/// No event may be forgotten before the last attempt to tell it.
pub(crate) const LONGEST_SCHEDULE: SignedDuration = schedule::LONGEST;

/// Secrets of one owner that sign at once.
const MOST_SECRETS: u64 = 5;

/// Events of a replay: of those that failed, and of those that were never recorded for the endpoint.
const MOST_REPLAYED: u32 = 10_000;

/// Hosts that the requests of a project and mode may name.
const MOST_HOSTS: u64 = 1000;

/// Of those, so many are remembered here.
const MOST_KNOWN: usize = 10_000;

/// Characters of a description.
const MAX_DESCRIPTION: usize = 200;

/// The longest overlap of two secrets.
const LONGEST_OVERLAP: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Why an endpoint is refused.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WebhookError {
    #[error("the address {0}")]
    Address(#[from] AddressError),
    #[error("{field} {what}")]
    Invalid { field: &'static str, what: String },
    #[error("the project has an endpoint of this address already: {0}")]
    Exists(EndpointId),
    #[error("the project has {found} {what}, and {limit} is the limit")]
    TooMany { name: &'static str, what: &'static str, limit: u64, found: u64 },
    #[error("there is no such webhook endpoint")]
    NoEndpoint,
    #[error("there is no such delivery")]
    NoDelivery,
    #[error(
        "the project has no secret for addresses that requests name: make one by POST /v1/webhook-secret:rotate"
    )]
    NoSecret,
    #[error("the endpoint is switched off: nothing is sent to it")]
    Off,
    #[error(
        "a secret can't be read: the key secret of this server is another one than the one it was sealed with"
    )]
    Sealed,
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

/// An endpoint to be made.
#[derive(Debug, Clone)]
pub(crate) struct EndpointOrder {
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) events: Option<Vec<EventType>>,
    pub(crate) scheme: Scheme,
}

/// The webhooks of this process. Cheap to clone; every clone is the same room.
#[derive(Clone)]
pub struct Webhooks(Arc<Room>);

struct Room {
    store: Store,
    outbound: Outbound,
    sealer: Sealer,
    clock: Clock,
    settings: WebhookSettings,
    /// A name of this run of the process: leases are under it.
    owner: String,
    /// What begins every owner's name of this data folder.
    instance: String,
    /// Hosts that requests may name: they have their row.
    hosts: Mutex<HashSet<(ProjectId, Mode, String)>>,
    /// Nothing more is begun.
    halting: CancellationToken,
    /// Everything ends where it stands.
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhooks")
    }
}

impl Webhooks {
    /// A room. `instance` names the data folder, and is the same after a restart.
    pub fn new(
        (place, instance): (&Place, &str),
        outbound: Outbound,
        settings: WebhookSettings,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Room {
            store: place.store.clone(),
            outbound,
            sealer: Sealer::new(&place.hasher),
            clock,
            settings,
            owner: format!("{instance}/{}", EndpointId::new()),
            instance: format!("{instance}/"),
            hosts: Mutex::default(),
            halting: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Makes an endpoint: it, and the secret that is told now and never again.
    pub(crate) async fn create(
        &self,
        caller: &Principal,
        order: EndpointOrder,
    ) -> Result<(Endpoint, String), WebhookError> {
        let room = &self.0;
        let (id, secret) = (EndpointId::new(), Secret::generate(order.scheme));
        let new = NewEndpoint {
            id,
            project: caller.project,
            mode: caller.mode,
            kind: EndpointKind::Own,
            url: room.outbound.address(&order.url)?.to_string(),
            description: described(order.description)?,
            events: sorted(order.events)?,
            signature: order.scheme.name().to_owned(),
        };
        let sealed = room.sealer.seal(&id.to_string(), &secret);
        let limit = room.settings.max_endpoints;
        match room.store.create_endpoint(new, (Some(sealed), limit), room.now()).await? {
            Creation::Created(endpoint) => Ok((*endpoint, secret.shown())),
            Creation::Exists(id) => Err(WebhookError::Exists(id)),
            Creation::TooMany(found) => {
                Err(WebhookError::TooMany { name: "max_endpoints", what: "webhook endpoints", limit, found })
            }
        }
    }

    /// The endpoints of a project and mode, oldest first.
    pub(crate) async fn list(&self, caller: &Principal) -> Result<Vec<Endpoint>, WebhookError> {
        let mut all = self.0.store.endpoints((caller.project, caller.mode)).await?;
        all.retain(|endpoint| endpoint.kind == EndpointKind::Own);
        Ok(all)
    }

    /// One of them.
    pub(crate) async fn get(&self, caller: &Principal, id: EndpointId) -> Result<Endpoint, WebhookError> {
        let found = self.0.store.endpoint((caller.project, caller.mode), id).await?;
        found.filter(|endpoint| endpoint.kind == EndpointKind::Own).ok_or(WebhookError::NoEndpoint)
    }

    /// Changes one.
    pub(crate) async fn change(
        &self,
        caller: &Principal,
        id: EndpointId,
        change: EndpointChange,
    ) -> Result<Endpoint, WebhookError> {
        use eyebolt_types::Change;
        self.get(caller, id).await?;
        let url = match change.url {
            Change::To(url) => Change::To(self.0.outbound.address(&url)?.to_string()),
            Change::Keep => Change::Keep,
        };
        let description = match change.description {
            Change::To(text) => Change::To(described(text)?),
            Change::Keep => Change::Keep,
        };
        let events = match change.events {
            Change::To(events) => Change::To(sorted(events)?),
            Change::Keep => Change::Keep,
        };
        let change = EndpointChange { url, description, events, enabled: change.enabled };
        let whose = (caller.project, caller.mode, id);
        match self.0.store.change_endpoint(whose, change, self.0.now()).await? {
            Ok(changed) => changed.ok_or(WebhookError::NoEndpoint),
            Err(other) => Err(WebhookError::Exists(other)),
        }
    }

    /// Removes one with all that is known of it.
    pub(crate) async fn delete(&self, caller: &Principal, id: EndpointId) -> Result<(), WebhookError> {
        self.get(caller, id).await?;
        let there = self.0.store.delete_endpoint((caller.project, caller.mode, id)).await?;
        there.then_some(()).ok_or(WebhookError::NoEndpoint)
    }

    /// Gives one a new secret; those before it sign on for the overlap.
    pub(crate) async fn rotate(
        &self,
        caller: &Principal,
        id: EndpointId,
        overlap: SignedDuration,
    ) -> Result<(Endpoint, String), WebhookError> {
        let endpoint = self.get(caller, id).await?;
        let secret =
            self.0.add_secret(SecretOwner::Endpoint(id), Scheme::named(&endpoint.signature), overlap).await?;
        Ok((endpoint, secret))
    }

    /// Gives the addresses that requests name a new secret.
    pub(crate) async fn rotate_default(
        &self,
        caller: &Principal,
        overlap: SignedDuration,
    ) -> Result<String, WebhookError> {
        let owner = SecretOwner::Project(caller.project, caller.mode);
        self.0.add_secret(owner, Scheme::V1, overlap).await
    }

    /// Sends a test to one: the delivery.
    pub(crate) async fn test(
        &self,
        caller: &Principal,
        id: EndpointId,
    ) -> Result<StoredDelivery, WebhookError> {
        self.enabled(caller, id).await?;
        let now = self.0.now();
        let make = move |version| {
            let data = EndpointEvent { id, object: "webhook_endpoint".to_owned() };
            let made = events::made(
                (EventType::WebhookTest, &id.to_string(), version),
                EventData::Endpoint(data),
                now,
            );
            NewEvent { told_at: None, ..made }
        };
        let event = self.0.store.test_endpoint((caller.project, caller.mode, id), make, now).await?;
        self.0.store.tell_event(caller.project);
        self.delivery(caller, id, event).await
    }

    /// One delivery with its log.
    pub(crate) async fn delivery(
        &self,
        caller: &Principal,
        id: EndpointId,
        event: EventId,
    ) -> Result<StoredDelivery, WebhookError> {
        self.get(caller, id).await?;
        self.0.store.delivery(id, event).await?.ok_or(WebhookError::NoDelivery)
    }

    /// Deliveries of one, newest first; and whether there are more.
    pub(crate) async fn deliveries(
        &self,
        caller: &Principal,
        filter: DeliveryFilter,
    ) -> Result<(Vec<StoredDelivery>, bool), WebhookError> {
        self.get(caller, filter.endpoint).await?;
        let limit = filter.limit as usize;
        let mut found = self.0.store.deliveries(DeliveryFilter { limit: filter.limit + 1, ..filter }).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// Begins one delivery anew.
    pub(crate) async fn replay(
        &self,
        caller: &Principal,
        id: EndpointId,
        event: EventId,
    ) -> Result<StoredDelivery, WebhookError> {
        self.enabled(caller, id).await?;
        if !self.0.store.replay_delivery((id, event), self.0.now()).await? {
            return Err(WebhookError::NoDelivery);
        }
        self.0.store.tell_event(caller.project);
        self.delivery(caller, id, event).await
    }

    /// Begins anew all that one did not get since then; how many, and whether there may be more.
    pub(crate) async fn replay_since(
        &self,
        caller: &Principal,
        id: EndpointId,
        since: Timestamp,
    ) -> Result<(u64, bool), WebhookError> {
        self.enabled(caller, id).await?;
        let whose = (caller.project, caller.mode, id);
        let replayed = self.0.store.replay_since(whose, (since, MOST_REPLAYED), self.0.now()).await?;
        self.0.store.tell_event(caller.project);
        Ok((replayed, replayed >= u64::from(MOST_REPLAYED)))
    }

    /// Lets a request name where its job's end is told.
    pub(crate) async fn admit(&self, caller: &Principal, url: &str) -> Result<(), WebhookError> {
        let room = &self.0;
        let url = room.outbound.address(url)?;
        let hosts = (caller.project, caller.mode, url.origin().ascii_serialization());
        if room.hosts().contains(&hosts) {
            return Ok(());
        }
        let owner = SecretOwner::Project(caller.project, caller.mode);
        if room.store.secrets(owner, room.now()).await?.is_empty() {
            return Err(WebhookError::NoSecret);
        }
        let new = NewEndpoint {
            id: EndpointId::new(),
            project: caller.project,
            mode: caller.mode,
            kind: EndpointKind::Requests,
            url: hosts.2.clone(),
            description: String::new(),
            events: None,
            signature: Scheme::V1.name().to_owned(),
        };
        if let Creation::TooMany(found) =
            room.store.create_endpoint(new, (None, MOST_HOSTS), room.now()).await?
        {
            let (name, what) = ("max_webhook_hosts", "hosts that requests named");
            return Err(WebhookError::TooMany { name, what, limit: MOST_HOSTS, found });
        }
        let mut known = room.hosts();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(hosts);
        Ok(())
    }

    async fn enabled(&self, caller: &Principal, id: EndpointId) -> Result<(), WebhookError> {
        let endpoint = self.get(caller, id).await?;
        let on = endpoint.state == eyebolt_store::EndpointState::Enabled;
        on.then_some(()).ok_or(WebhookError::Off)
    }
}

/// Where a request wants to be told, in the store's words.
pub(crate) fn told_at(url: &str) -> Option<ToldAt> {
    let mut url = url::Url::parse(url).ok()?;
    url.set_fragment(None);
    let origin = url.origin().ascii_serialization();
    Some(ToldAt { url: url.into(), origin })
}

impl Room {
    fn hosts(&self) -> MutexGuard<'_, HashSet<(ProjectId, Mode, String)>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    async fn add_secret(
        &self,
        owner: SecretOwner,
        scheme: Scheme,
        overlap: SignedDuration,
    ) -> Result<String, WebhookError> {
        if overlap.is_negative() || overlap > LONGEST_OVERLAP {
            let what = "must be from 0 to 30 days".to_owned();
            return Err(WebhookError::Invalid { field: "overlap", what });
        }
        let (now, secret) = (self.now(), Secret::generate(scheme));
        let sealed = self.sealer.seal(&owner_name(owner), &secret);
        match self.store.add_secret((owner, sealed), (now + overlap, MOST_SECRETS), now).await? {
            Ok(_) => Ok(secret.shown()),
            Err(found) => Err(WebhookError::TooMany {
                name: "max_secrets",
                what: "secrets that sign at once: wait until one ends",
                limit: MOST_SECRETS,
                found,
            }),
        }
    }

    /// What messages to an endpoint are signed with now, the newest first.
    async fn secrets(&self, endpoint: &Endpoint) -> Result<Vec<Secret>, WebhookError> {
        let owner = match endpoint.kind {
            EndpointKind::Own => SecretOwner::Endpoint(endpoint.id),
            EndpointKind::Requests => SecretOwner::Project(endpoint.project, endpoint.mode),
        };
        let (name, scheme) = (owner_name(owner), Scheme::named(&endpoint.signature));
        let sealed = self.store.secrets(owner, self.now()).await?;
        let open =
            |one: &SealedSecret| self.sealer.open(&name, (scheme, &one.sealed)).ok_or(WebhookError::Sealed);
        sealed.iter().map(open).collect()
    }
}

fn owner_name(owner: SecretOwner) -> String {
    match owner {
        SecretOwner::Endpoint(id) => id.to_string(),
        SecretOwner::Project(project, mode) => project_owner(project, mode),
    }
}

fn project_owner(project: ProjectId, mode: Mode) -> String {
    format!("{project}/{}", mode.name())
}

fn described(text: String) -> Result<String, WebhookError> {
    let length = text.chars().count();
    if length > MAX_DESCRIPTION || text.chars().any(char::is_control) {
        let what =
            format!("must have at most {MAX_DESCRIPTION} characters, none of them a control character");
        return Err(WebhookError::Invalid { field: "description", what });
    }
    Ok(text)
}

fn sorted(events: Option<Vec<EventType>>) -> Result<Option<Vec<EventType>>, WebhookError> {
    let Some(mut events) = events else { return Ok(None) };
    events.sort_unstable();
    events.dedup();
    if events.is_empty() {
        let what = "names no event; leave it out for all".to_owned();
        return Err(WebhookError::Invalid { field: "events", what });
    }
    Ok(Some(events))
}

impl From<DeliveryState> for DeliveryStatus {
    fn from(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Failed => Self::Failed,
        }
    }
}
