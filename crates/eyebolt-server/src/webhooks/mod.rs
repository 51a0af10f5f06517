//! The room "webhooks": who wants to be told, with what it is signed, and what was told.
//!
//! What is to be told is a row, written with the fact itself. `dispatch` leases endpoints, and a `pump` sends what is due to one
//! of them. `share` says whose endpoint is next, `lane` what is sent next, `pace` when, `schedule` and `tried` what follows from
//! an answer: all are pure. A receiver may get a message twice, always with the same id: after a crash between the answer and
//! its row, or an answer that came too late.

mod deliveries;
mod dispatch;
mod lane;
mod pace;
mod pump;
mod replays;
mod requests;
mod schedule;
mod sealing;
mod secrets;
mod sending;
mod settings;
mod share;
mod signature;
mod tried;
mod view;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eyebolt_store::{
    Creation, DeliveryState, Endpoint, EndpointChange, EndpointKind, NewEndpoint, Principal, Store,
    StoreError,
};
use eyebolt_types::{
    Clock, EventType, Mode,
    id::{EndpointId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::requests::told_at;
use self::{pace::Paces, replays::Replays, sealing::Sealer, share::Crowd, signature::Secret};
pub use self::{
    settings::WebhookSettings,
    signature::Scheme,
    view::{
        AttemptView, DeletedEndpoint, DeliveryList, DeliveryStatus, DeliveryView, EndpointList, EndpointView,
        NewEndpointView, ReplayView, SecretView,
    },
};
use crate::{Outbound, Place, outbound::AddressError};

/// No event may be forgotten before the last attempt to tell it.
pub(crate) const LONGEST_SCHEDULE: SignedDuration = schedule::LONGEST;

/// Scheme, host and port of addresses that requests of a project and mode name.
type Host = (ProjectId, Mode, String);

/// Characters of a description.
const MAX_DESCRIPTION: usize = 200;

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
    /// Hosts that requests may name, and when it was written down that one did: they have their row.
    hosts: Mutex<HashMap<Host, Timestamp>>,
    /// How fast each backlog goes.
    paces: Paces,
    /// Who is being sent what he missed.
    replays: Replays,
    /// Who waited for a pump when somebody looked last.
    crowd: Mutex<Crowd>,
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
            paces: Paces::new(settings.backlog_per_second),
            replays: Replays::default(),
            settings,
            owner: format!("{instance}/{}", EndpointId::new()),
            instance: format!("{instance}/"),
            hosts: Mutex::default(),
            crowd: Mutex::default(),
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
        Ok(self.0.store.endpoints((caller.project, caller.mode)).await?)
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

    async fn enabled(&self, caller: &Principal, id: EndpointId) -> Result<(), WebhookError> {
        let endpoint = self.get(caller, id).await?;
        let on = endpoint.state == eyebolt_store::EndpointState::Enabled;
        on.then_some(()).ok_or(WebhookError::Off)
    }
}

impl Room {
    fn hosts(&self) -> MutexGuard<'_, HashMap<Host, Timestamp>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
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
