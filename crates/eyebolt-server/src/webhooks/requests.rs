//! Addresses that requests name.

use eyebolt_store::{Creation, EndpointKind, NewEndpoint, Principal, SecretOwner, ToldAt};
use eyebolt_types::id::EndpointId;
use jiff::SignedDuration;

use super::{Host, Scheme, WebhookError, Webhooks};

/// Hosts that the requests of a project and mode may name.
const MOST_HOSTS: u64 = 1000;

/// Of those, so many are remembered here.
const MOST_KNOWN: usize = 10_000;

/// That a host was named is written down again after so long: far less than the sweep waits for.
const NOTED: SignedDuration = SignedDuration::from_hours(1);

impl Webhooks {
    /// Lets a request name where its job's end is told.
    pub(crate) async fn admit(&self, caller: &Principal, url: &str) -> Result<(), WebhookError> {
        let (room, now) = (&self.0, self.0.now());
        let url = room.outbound.address(url)?;
        let host = (caller.project, caller.mode, url.origin().ascii_serialization());
        if room.hosts().get(&host).is_some_and(|noted| *noted + NOTED > now) {
            return Ok(());
        }
        let owner = SecretOwner::Project(caller.project, caller.mode);
        if room.store.secrets(owner, now).await?.is_empty() {
            return Err(WebhookError::NoSecret);
        }
        let made = room.store.create_endpoint(standing_for(&host), (None, MOST_HOSTS), now).await?;
        if let Creation::TooMany(found) = made {
            let (name, what) = ("max_webhook_hosts", "hosts that requests named");
            return Err(WebhookError::TooMany { name, what, limit: MOST_HOSTS, found });
        }
        let mut known = room.hosts();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(host, now);
        Ok(())
    }
}

/// The endpoint of all addresses on a host.
fn standing_for((project, mode, origin): &Host) -> NewEndpoint {
    NewEndpoint {
        id: EndpointId::new(),
        project: *project,
        mode: *mode,
        kind: EndpointKind::Requests,
        url: origin.clone(),
        description: String::new(),
        events: None,
        signature: Scheme::V1.name().to_owned(),
    }
}

/// Where a request wants to be told, in the store's words.
pub(crate) fn told_at(url: &str) -> Option<ToldAt> {
    let mut url = url::Url::parse(url).ok()?;
    url.set_fragment(None);
    let origin = url.origin().ascii_serialization();
    Some(ToldAt { url: url.into(), origin })
}
