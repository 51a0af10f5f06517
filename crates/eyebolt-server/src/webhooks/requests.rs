//! Addresses that requests name.

use eyebolt_store::{Creation, EndpointKind, NewEndpoint, Principal, SecretOwner, ToldAt};
use eyebolt_types::id::EndpointId;

use super::{Scheme, WebhookError, Webhooks};

/// Hosts that the requests of a project and mode may name.
const MOST_HOSTS: u64 = 1000;

/// Of those, so many are remembered here.
const MOST_KNOWN: usize = 10_000;

impl Webhooks {
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
}

/// Where a request wants to be told, in the store's words.
pub(crate) fn told_at(url: &str) -> Option<ToldAt> {
    let mut url = url::Url::parse(url).ok()?;
    url.set_fragment(None);
    let origin = url.origin().ascii_serialization();
    Some(ToldAt { url: url.into(), origin })
}
