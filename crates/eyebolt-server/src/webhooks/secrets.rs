//! What messages are signed with.

use eyebolt_store::{Endpoint, EndpointKind, Principal, SealedSecret, SecretOwner};
use eyebolt_types::{
    Mode,
    id::{EndpointId, ProjectId},
};
use jiff::SignedDuration;

use super::{
    Room, WebhookError, Webhooks,
    signature::{Scheme, Secret},
};

/// Secrets of one owner that sign at once.
const MOST_SECRETS: u64 = 5;

/// The longest overlap of two secrets.
const LONGEST_OVERLAP: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Webhooks {
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
}

impl Room {
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
                what: "secrets that sign at once: wait until one ends, or end them all by an overlap of 0s",
                limit: MOST_SECRETS,
                found,
            }),
        }
    }

    /// What messages to an endpoint are signed with now, the newest first.
    pub(super) async fn secrets(&self, endpoint: &Endpoint) -> Result<Vec<Secret>, WebhookError> {
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
