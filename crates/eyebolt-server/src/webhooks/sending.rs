//! One attempt to send a message, and what is written down of it.

use std::time::Duration;

use bytes::Bytes;
use eyebolt_store::{DeliveryAttempt, DueDelivery, Endpoint, Settlement, StoreError};
use eyebolt_types::id::{EndpointId, EventId};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use tokio::time::{Instant, sleep};
use url::Url;

use super::{Room, dispatch::REST, pace::Turns, schedule::Outcome, signature::Secret, tried::Tried};
use crate::outbound::{OutboundError, Post, Reply};

/// First bytes of an answer that are kept.
const ANSWER: usize = 1 << 10;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

impl Room {
    /// One attempt, in its turn where it has to wait for one.
    pub(super) async fn send(
        &self,
        (url, turns): (String, Option<Turns>),
        (delivery, secrets): (&DueDelivery, &[Secret]),
    ) -> (DeliveryAttempt, Outcome) {
        let (started_at, began) = (self.now(), Instant::now());
        let blank = DeliveryAttempt {
            url: url.clone(),
            started_at,
            took: Duration::ZERO,
            status: None,
            error: None,
            answer: Vec::new(),
        };
        let Some(data) = &delivery.data else {
            let error = Some("the event is no longer kept".to_owned());
            return (DeliveryAttempt { error, ..blank }, Outcome::Forgotten);
        };
        let turn = async {
            if let Some(turns) = turns {
                turns.next().await;
            }
        };
        let replied = match self.outbound.address(&url) {
            Ok(url) => {
                let message = self.message(url, (told_as(delivery.event), data), secrets);
                self.outbound.post(message, turn).await
            }
            Err(error) => Err(OutboundError::Address(error)),
        };
        let blank = DeliveryAttempt { took: began.elapsed(), ..blank };
        match replied {
            Ok(reply) => {
                let outcome =
                    Outcome::Answer { status: reply.status, retry_after: retry_after(&reply, self.now()) };
                (DeliveryAttempt { status: Some(reply.status), answer: reply.body, ..blank }, outcome)
            }
            Err(error) => {
                // What the project is not told.
                tracing::debug!(event = %delivery.event, %error, "a webhook was not answered");
                (DeliveryAttempt { error: Some(error.told()), ..blank }, Outcome::NoAnswer)
            }
        }
    }

    fn message(&self, url: Url, (id, data): (EventId, &str), secrets: &[Secret]) -> Post {
        let timestamp = self.now().as_second();
        let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(id, timestamp, data)).collect();
        let fields = [
            (ID, id.to_string()),
            (TIMESTAMP, timestamp.to_string()),
            (SIGNATURE, signatures.join(" ")),
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::USER_AGENT, concat!("Eyebolt/", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        let text = |text| HeaderValue::try_from(text).expect("ids, numbers and base64 are visible ASCII");
        let headers: HeaderMap = fields.into_iter().map(|(name, value)| (name, text(value))).collect();
        let body = Bytes::copy_from_slice(data.as_bytes());
        Post { url, headers, body, limit: self.settings.timeout, most: ANSWER }
    }

    /// Writes down what came of an attempt; whether the lease held. A store that fails is asked again: what is not written
    /// is sent once more.
    pub(super) async fn settle(
        &self,
        lease: (EndpointId, i64),
        (event, attempt): (EventId, DeliveryAttempt),
        tried: Tried,
    ) -> bool {
        loop {
            let tried = tried.clone();
            let judge = move |endpoint| judged(&tried, endpoint);
            let attempted = (event, attempt.clone(), self.now());
            match self.store.settle_delivery(lease, attempted, judge).await {
                Ok(held) => return held,
                Err(error @ StoreError::Unavailable { .. }) => {
                    tracing::warn!(endpoint = %lease.0, %error, "a delivery could not be written down");
                    sleep(REST).await;
                }
                Err(error) => {
                    tracing::error!(endpoint = %lease.0, %error, "a delivery could not be written down");
                    return false;
                }
            }
        }
    }
}

/// What follows, with the alert: what the operator's log watch looks for. It is told before it is written down, so that no crash
/// leaves it out.
fn judged(tried: &Tried, endpoint: Endpoint) -> Settlement {
    let was = endpoint.state;
    let settled = tried.settle(endpoint);
    let Endpoint { id, project, state, .. } = &settled.endpoint;
    if *state != was {
        tracing::error!(endpoint = %id, %project, state = state.name(), "webhook endpoint disabled");
    }
    settled
}

/// The id that a message has: that of its event, at every attempt.
#[cfg(not(feature = "torture"))]
fn told_as(event: EventId) -> EventId {
    event
}

/// The same, but for the defect `fresh_event_id`.
#[cfg(feature = "torture")]
fn told_as(event: EventId) -> EventId {
    if !crate::torture::has_defect("fresh_event_id") {
        return event;
    }
    let mut fresh = [0; 16];
    aws_lc_rs::rand::fill(&mut fresh).expect("the system has random numbers");
    EventId::of(fresh)
}

/// How long the receiver wants to be left alone: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(reply: &Reply, now: Timestamp) -> Option<SignedDuration> {
    let said = reply.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = said.parse::<u32>() {
        return Some(SignedDuration::from_secs(i64::from(seconds)));
    }
    let until = rfc2822::DateTimeParser::new().parse_timestamp(said).ok()?;
    Some(until.duration_since(now).max(SignedDuration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let read = |said: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, said.parse().unwrap())]);
            retry_after(&Reply { status: 503, headers, body: Vec::new() }, now)
        };
        assert_eq!(read("120"), Some(SignedDuration::from_secs(120)));
        assert_eq!(read("Fri, 02 Jan 2026 03:05:05 GMT"), Some(SignedDuration::from_secs(60)));
        assert_eq!(read("Fri, 02 Jan 2026 03:00:00 GMT"), Some(SignedDuration::ZERO));
        assert_eq!((read("soon"), read("-5"), read("99999999999999")), (None, None, None));
    }
}
