//! Loaded sessions of one model and the turns at them.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use eyebolt_types::Class;

use crate::{
    backend::Session,
    turns::{Closed, Turn, Turns},
};

/// Sessions of one model. Empty until the loader has brought the first one; whoever asks before waits for it alone.
pub(crate) struct SessionPool {
    idle: Mutex<Vec<Box<dyn Session>>>,
    /// One for each loaded session; closed where loading failed.
    turns: Turns,
    loaded: Mutex<usize>,
    failure: OnceLock<String>,
}

impl SessionPool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            turns: Turns::new(0),
            loaded: Mutex::new(0),
            failure: OnceLock::new(),
        })
    }

    /// Adds a loaded session.
    pub(crate) fn add(&self, session: Box<dyn Session>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.turns.add();
    }

    /// How many sessions were added.
    pub(crate) fn loaded(&self) -> usize {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model can't be loaded: everybody who waits is told.
    pub(crate) fn fail(&self, reason: String) {
        let _ = self.failure.set(reason);
        self.turns.close();
    }

    /// Why the model can't be used, where it can't.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits for a session. `Err`: why there will be none.
    pub(crate) async fn take(self: &Arc<Self>, class: Class) -> Result<Lent, String> {
        let turn = self.turns.take(class).await;
        let turn = turn.map_err(|Closed| self.failure().unwrap_or("it was unloaded").to_owned())?;
        let session = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = session.expect("there is an idle session for each turn");
        Ok(Lent { session: Some(session), pool: Arc::clone(self), _turn: turn })
    }
}

/// A session on loan: back in the pool on drop, before its turn is.
pub(crate) struct Lent {
    session: Option<Box<dyn Session>>,
    pool: Arc<SessionPool>,
    _turn: Turn,
}

impl Lent {
    /// Whether somebody waits for a session of this model who is more urgent.
    pub(crate) fn is_wanted(&self, class: Class) -> bool {
        self.pool.turns.is_wanted(class)
    }
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
