//! The room "access": who sends a request, and what it may do.
//!
//! A key that can't be one is refused by its check digits. A key that was right is believed for a second, so a revoked
//! one ends within a second. An address that showed wrong keys too often is refused before anything is looked up; keys
//! that were right lately pass all the same, since behind one address there may be many clients.

mod failures;
mod generations;
mod keys;
mod settings;
mod view;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Digest, SHA256, digest},
};
use eyebolt_store::{ApiSecret, KeyHasher, Principal, Shown, Store, StoreError};
use eyebolt_types::{Clock, Scope};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use self::{failures::Failures, generations::Generations};
pub use self::{
    keys::{Issued, KeyError, KeyOrder, Keys, period},
    settings::{AccessSettings, Hidden},
    view::{CreatedProject, IssuedView, KeyList, KeyView, ProjectList, ProjectView},
};
use crate::Place;

/// How long a key that was right is believed without a look-up.
const BELIEVED: SignedDuration = SignedDuration::from_secs(1);

/// How long it is remembered that a key was right.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

/// How many such keys, in each of two generations.
const MOST_KEYS: usize = 16 << 10;

/// `last_used_at` tells the minute: further uses within it are not written.
const NOTED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Why somebody is not let in.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AccessError {
    #[error("the request carries no API key: send the header Authorization: Bearer eb_live_… or eb_test_…")]
    NoKey,
    #[error("what was sent can't be an API key: its shape or its check digits are wrong")]
    Malformed,
    #[error("no such API key is known here")]
    Unknown,
    #[error("the API key's time is over")]
    Expired,
    #[error("the API key was revoked")]
    Revoked,
    #[error("this needs the scope {needed}, which the API key does not have")]
    Scope { needed: Scope, granted: Vec<Scope> },
    #[error("{found} requests with a wrong key came from this address within a minute, the limit is {limit}")]
    TooManyFailures { limit: u32, found: u32, wait: SignedDuration },
    #[error("this server has no admin token, so that its admin API is off")]
    AdminOff,
    #[error("the admin token is missing or wrong: send it in the header Authorization: Bearer")]
    WrongToken,
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

/// Tells who sends a request. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    store: Store,
    hasher: KeyHasher,
    clock: Clock,
    keys: Keys,
    /// SHA-256 of the admin token: digests of one length compare in one time.
    admin: Option<Digest>,
    limit: u32,
    failures: Mutex<Failures>,
    known: Mutex<Generations<Vec<u8>, Known>>,
}

/// A key that was right.
#[derive(Debug, Clone)]
struct Known {
    principal: Principal,
    seen_at: Timestamp,
    noted_at: Timestamp,
}

impl Access {
    /// Lets in who has a key of this place's database.
    pub fn new(place: &Place, clock: Clock, settings: &AccessSettings) -> Self {
        let token = settings.admin_token.reveal();
        Self(Arc::new(Inner {
            keys: Keys::new(place, clock.clone()),
            admin: (!token.is_empty()).then(|| digest(&SHA256, token.as_bytes())),
            store: place.store.clone(),
            hasher: place.hasher.clone(),
            clock,
            limit: settings.failures_per_minute,
            failures: Mutex::new(Failures::new(settings.failures_per_minute)),
            known: Mutex::new(Generations::new(REMEMBERED, MOST_KEYS)),
        }))
    }

    /// Whom the shown key stands for. `address` is where the connection comes from.
    ///
    /// # Errors
    /// Where the key is missing, wrong or over, the address has failed too often, or the store can't be asked.
    pub async fn principal(&self, shown: Option<&str>, address: IpAddr) -> Result<Principal, AccessError> {
        let shown = shown.ok_or(AccessError::NoKey)?;
        let now = self.0.clock.now();
        let hash = ApiSecret::parse(shown).map(|secret| self.0.hasher.hash(&secret));
        let known = hash.as_ref().and_then(|hash| self.known().get(hash).cloned());
        match &known {
            Some(known) if within(BELIEVED, known.seen_at, now) => return Ok(known.principal.clone()),
            Some(_) => {}
            None => self.check_failures(address, now)?,
        }
        let found = match hash {
            None => Err(AccessError::Malformed),
            Some(hash) => self.look_up(hash, known, now).await,
        };
        if !matches!(found, Ok(_) | Err(AccessError::Store(_))) {
            self.failures().add(address, now);
        }
        found
    }

    /// Whether the admin token was shown.
    ///
    /// # Errors
    /// Where there is none, another one or none was shown, or the address has failed too often.
    pub fn operator(&self, shown: Option<&str>, address: IpAddr) -> Result<(), AccessError> {
        let token = self.0.admin.as_ref().ok_or(AccessError::AdminOff)?;
        let shown = shown.ok_or(AccessError::WrongToken)?;
        let now = self.0.clock.now();
        self.check_failures(address, now)?;
        let shown = digest(&SHA256, shown.as_bytes());
        if verify_slices_are_equal(token.as_ref(), shown.as_ref()).is_ok() {
            return Ok(());
        }
        self.failures().add(address, now);
        Err(AccessError::WrongToken)
    }

    async fn look_up(
        &self,
        hash: Vec<u8>,
        known: Option<Known>,
        now: Timestamp,
    ) -> Result<Principal, AccessError> {
        let refused = match self.0.store.authenticate(hash.clone(), now).await? {
            Shown::Valid(principal) => {
                let noted = known.map(|known| known.noted_at);
                let noted_at = noted.filter(|&noted| within(NOTED_EVERY, noted, now)).unwrap_or_else(|| {
                    self.note_use(&principal, now);
                    now
                });
                let known = Known { principal: principal.clone(), seen_at: now, noted_at };
                self.known().insert(hash, known, now);
                return Ok(principal);
            }
            Shown::Unknown => AccessError::Unknown,
            Shown::Expired => AccessError::Expired,
            Shown::Revoked => AccessError::Revoked,
        };
        self.known().remove(&hash);
        Err(refused)
    }

    /// Writes the key's last use, with nobody waiting for it.
    fn note_use(&self, principal: &Principal, now: Timestamp) {
        let (store, key) = (self.0.store.clone(), principal.key);
        tokio::spawn(async move {
            if let Err(error) = store.key_used(key, now).await {
                tracing::warn!(%key, %error, "the last use of a key could not be noted");
            }
        });
    }

    fn check_failures(&self, address: IpAddr, now: Timestamp) -> Result<(), AccessError> {
        let wait = self.failures().wait(address, now);
        wait.map_or(Ok(()), |wait| {
            Err(AccessError::TooManyFailures { limit: self.0.limit, found: wait.found, wait: wait.time })
        })
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Generations<Vec<u8>, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes and ends keys.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// What tells the time here.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

/// Whether `now` is less than `span` after `then`. A clock that was set back is not believed.
fn within(span: SignedDuration, then: Timestamp, now: Timestamp) -> bool {
    then <= now && now.duration_since(then) < span
}

/// Refuses who lacks the scope.
///
/// # Errors
/// [`AccessError::Scope`].
pub fn require(principal: &Principal, needed: Scope) -> Result<(), AccessError> {
    if principal.scopes.contains(&needed) {
        return Ok(());
    }
    Err(AccessError::Scope { needed, granted: principal.scopes.clone() })
}
