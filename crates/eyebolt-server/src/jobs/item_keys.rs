//! Items of batches that have an idempotency key of their own: they share it with the calls and items of their project.

use eyebolt_store::{Idempotency, ItemKey, Joined, Known, OpenBatch, Principal, Replays};
use eyebolt_types::id::BatchId;

use super::{
    Room,
    arrivals::Arrival,
    items::Turn,
    known::{expired, reused},
};
use crate::{ApiError, idempotency::IdempotencyKey};

/// What the store knows an item by.
///
/// # Errors
/// Where what was stored is no key: it was looked at when it came.
pub(super) fn idempotency(key: &ItemKey) -> Result<Idempotency, ApiError> {
    let key_hash = IdempotencyKey::named(&key.text)?.hash();
    Ok(Idempotency { key_hash, fingerprint: key.fingerprint.clone(), body: None })
}

impl Room {
    /// Whether an item is the first with its key, before anything is taken from limits for it; or what became of it.
    pub(super) async fn arrive_as_item(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        place: (BatchId, u32),
        key: &Idempotency,
    ) -> Result<Result<Arrival, Turn>, ApiError> {
        let whose = (batch.project, batch.mode);
        // A call that waits for a worker under this key goes first: the item finds its job later.
        let Ok(arrival) = self.arrivals.begin((whose.0, whose.1, key.key_hash.clone())) else {
            return Ok(Err(Turn::Done));
        };
        match self.tools.store.idempotency_record(whose, key.key_hash.clone(), self.now()).await? {
            None => Ok(Ok(arrival)),
            Some(known) => self.share((batch, caller), place, (known, key)).await.map(Err),
        }
    }

    /// An item whose key was used before has the job that the key stands for, or fails as a call with that key would.
    pub(super) async fn share(
        &self,
        (batch, caller): (&OpenBatch, &Principal),
        place: (BatchId, u32),
        (known, key): (Known, &Idempotency),
    ) -> Result<Turn, ApiError> {
        let record = match known {
            Known::Record(record) if record.fingerprint == key.fingerprint => record,
            Known::Record(record) => return self.refuse(place, &reused(record.created_at)).await,
            Known::Batch(record) => return self.refuse(place, &reused(record.created_at)).await,
            Known::Expired(since) => return self.refuse(place, &expired(since)).await,
        };
        let whose = (batch.project, batch.mode, record.job);
        let joined = self.tools.store.join_item(place, whose, self.now()).await?;
        crate::failpoint::hit("after_join");
        match joined {
            Joined::Nothing => return Ok(Turn::Done),
            Joined::Ended => {
                self.count_replay(Replays { project: batch.project, mode: batch.mode, key: caller.key });
            }
            Joined::Waits | Joined::Again => {}
        }
        // The next items have their turn, or this one has it again.
        self.item_ended.notify_one();
        Ok(Turn::Done)
    }
}
