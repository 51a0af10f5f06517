//! Loaded sessions of one model and the permits to use them.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::Session;

/// Sessions of one model. Empty until the loader has brought the first one; whoever asks before waits for it alone.
pub(crate) struct SessionPool {
    idle: Mutex<Vec<Box<dyn Session>>>,
    /// One permit for each loaded session; closed where loading failed.
    permits: Arc<Semaphore>,
    loaded: Mutex<usize>,
    failure: OnceLock<String>,
}

impl SessionPool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(0)),
            loaded: Mutex::new(0),
            failure: OnceLock::new(),
        })
    }

    /// Adds a loaded session.
    pub(crate) fn add(&self, session: Box<dyn Session>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.permits.add_permits(1);
    }

    /// How many sessions were added.
    pub(crate) fn loaded(&self) -> usize {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model can't be loaded: everybody who waits is told.
    pub(crate) fn fail(&self, reason: String) {
        let _ = self.failure.set(reason);
        self.permits.close();
    }

    /// Why the model can't be used, where it can't.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits for a session. `Err`: why there will be none.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Lent, String> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| self.failure().unwrap_or("it was unloaded").to_owned())?;
        let session = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = session.expect("there is an idle session for each permit");
        Ok(Lent { session: Some(session), pool: Arc::clone(self), _permit: permit })
    }
}

/// A session on loan: back in the pool on drop, before its permit is.
pub(crate) struct Lent {
    session: Option<Box<dyn Session>>,
    pool: Arc<SessionPool>,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Lent {
    type Target = dyn Session;

    fn deref(&self) -> &Self::Target {
        self.session.as_deref().expect("taken only by drop")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.session.as_deref_mut().expect("taken only by drop")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}
