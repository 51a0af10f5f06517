//! What is seen of a request on its way.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eyebolt_admission::Sight;
use eyebolt_types::id::KeyId;
use http::{HeaderMap, HeaderName};

use crate::idempotency::IDEMPOTENCY_KEY;

/// Headers that name a request before its body is read, the first one that is there: the client's own name for it, or a
/// digest of its content (RFC 9530).
const NAMES: [HeaderName; 3] =
    [IDEMPOTENCY_KEY, HeaderName::from_static("repr-digest"), HeaderName::from_static("content-digest")];

/// One request that may start work. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Sighting(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    name: Option<u64>,
    address: Option<IpAddr>,
    arrived: Duration,
    content: OnceLock<u64>,
    known: AtomicBool,
    detained: AtomicBool,
}

impl Sighting {
    /// Of a request whose headers are there since `arrived`.
    pub(super) fn new(headers: &HeaderMap, address: Option<IpAddr>, arrived: Duration) -> Self {
        let named = |name: &HeaderName| {
            let value = headers.get(name)?;
            Some(digest(&(name.as_str(), value.as_bytes())))
        };
        Self(Arc::new(Seen {
            name: NAMES.iter().find_map(named),
            address,
            arrived,
            content: OnceLock::new(),
            known: AtomicBool::new(false),
            detained: AtomicBool::new(false),
        }))
    }

    /// The body was read: what is asked of which image.
    pub(crate) fn read(&self, fingerprint: &[u8]) {
        _ = self.0.content.set(digest(fingerprint));
    }

    /// Its idempotency key was known.
    pub(crate) fn known(&self) {
        self.0.known.store(true, Ordering::Relaxed);
    }

    /// Whether its idempotency key was known.
    pub(crate) fn is_known(&self) -> bool {
        self.0.known.load(Ordering::Relaxed)
    }

    pub(super) fn detain(&self) {
        self.0.detained.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_detained(&self) -> bool {
        self.0.detained.load(Ordering::Relaxed)
    }

    /// Who sent it: one phone of thousands does not pay for the others of its key.
    pub(crate) fn caller(&self, key: KeyId) -> u64 {
        caller(key, self.0.address)
    }

    /// Whose strikes a refusal for load is: those of this one request, where it has a name to be known by when it comes back.
    /// A program that sends many requests at once does not come back too early with each of them.
    pub(crate) fn sender(&self, key: KeyId) -> u64 {
        self.0.name.map_or_else(|| self.caller(key), |name| digest(&(key, self.0.address, name)))
    }

    pub(super) fn sight(&self, key: KeyId) -> Sight {
        let Seen { name, arrived, ref content, .. } = *self.0;
        Sight { caller: self.caller(key), name, content: content.get().copied(), arrived }
    }
}

/// Whose strikes are counted: those of a key at an address.
pub(crate) fn caller(key: KeyId, address: Option<IpAddr>) -> u64 {
    digest(&(key, address))
}

fn digest(what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
