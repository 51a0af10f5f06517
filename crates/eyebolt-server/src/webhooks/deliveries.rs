//! What was told to an endpoint, and what is told again.

use eyebolt_store::{DeliveryFilter, NewEvent, Principal, StoredDelivery};
use eyebolt_types::{
    EndpointEvent, EventData, EventType,
    id::{EndpointId, EventId},
};
use jiff::Timestamp;

use super::{WebhookError, Webhooks};
use crate::events;

/// Events of a replay: of those that failed, and of those that were never recorded for the endpoint.
const MOST_REPLAYED: u32 = 10_000;

impl Webhooks {
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
        let Some(_running) = self.0.replays.begin(id) else {
            let (name, what) = ("max_replays", "replay of this endpoint under way: wait until it ends");
            return Err(WebhookError::TooMany { name, what, limit: 1, found: 1 });
        };
        let whose = (caller.project, caller.mode, id);
        let replayed = self.0.store.replay_since(whose, (since, MOST_REPLAYED), self.0.now()).await?;
        self.0.store.tell_event(caller.project);
        Ok((replayed, replayed >= u64::from(MOST_REPLAYED)))
    }
}
