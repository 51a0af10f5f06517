//! Batches that clients send: small files, each under a name of its own.

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::payload::sha256;

/// One batch that a client wants done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchIntent {
    /// Its idempotency key.
    pub(crate) key: String,
    /// Of all items.
    pub(crate) features: String,
    /// In their order.
    pub(crate) items: Vec<BatchItem>,
    /// What is at the end of the address that wants to be told of its end.
    pub(crate) hook: Option<String>,
}

/// One of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchItem {
    /// Its name.
    pub(crate) custom_id: String,
    /// A key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// What becomes of it.
    pub(crate) kind: ItemKind,
    /// The file's text.
    pub(crate) text: String,
}

/// What the server makes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemKind {
    /// It succeeds, unless somebody cancels it.
    Sound,
    /// Its job fails.
    Corrupt,
    /// It is no image, and has no job.
    Alien,
    /// Its job fails for a reason that passes: it succeeds once it was run again, or again and again.
    Troubled,
}

const FEATURES: [&str; 2] = ["labels", "objects"];
const FEWEST: usize = 2;
const MOST: usize = 8;
/// A job has three attempts; then each time that it is run again it has one.
const TROUBLES: [&str; 2] = ["FAKE sound poison=*:3", "FAKE sound poison=*:4"];
const LONGEST_PADDING: usize = 2000;

impl BatchIntent {
    /// Files that nobody sent before. One in eight is corrupt, as many are no images, one batch in three wants to
    /// be told. In every second one the items have keys, in the others one in four fails at first.
    pub(crate) fn draw(key: String, rng: &mut StdRng) -> Self {
        let features = FEATURES[rng.random_range(0..FEATURES.len())].to_owned();
        let hook = (rng.random_range(0..3) == 0).then(|| format!("{:032x}", rng.random::<u128>()));
        let count = rng.random_range(FEWEST..=MOST);
        let keyed = rng.random_ratio(1, 2);
        let items = (0..count).map(|number| BatchItem {
            key: keyed.then(|| format!("{key}/{number}")),
            ..BatchItem::draw((number, keyed), rng)
        });
        Self { features, items: items.collect(), hook, key }
    }

    /// Another batch of the same items under the same keys, where they have some.
    pub(crate) fn twin(&self, key: impl FnOnce() -> String) -> Option<Self> {
        let keyed = self.items.iter().all(|item| item.key.is_some());
        keyed.then(|| Self { key: key(), hook: None, ..self.clone() })
    }

    /// As lines of JSON.
    pub(crate) fn body(&self) -> String {
        let line = |item: &BatchItem| {
            let image = STANDARD.encode(&item.text);
            let line =
                json!({"custom_id": item.custom_id, "idempotency_key": item.key, "image_base64": image});
            format!("{line}\n")
        };
        self.items.iter().map(line).collect()
    }

    /// A digest of everything that makes another request of it.
    pub(crate) fn fingerprint(&self) -> String {
        let hook = self.hook.as_deref().unwrap_or_default();
        sha256(format!("{}\n{hook}\n{}", self.features, self.body()).as_bytes())
    }
}

impl BatchItem {
    /// With a key none fails for a reason that passes: another batch with the same key would run it again, and nobody here
    /// could say whose wish that was.
    fn draw((number, keyed): (usize, bool), rng: &mut StdRng) -> Self {
        let (kind, word) = match rng.random_range(0..8) {
            0 => (ItemKind::Corrupt, "FAKE corrupt"),
            1 => (ItemKind::Alien, "no image"),
            2 | 3 if !keyed => (ItemKind::Troubled, *TROUBLES.choose(rng).expect("there are two")),
            _ => (ItemKind::Sound, "FAKE sound"),
        };
        let padding = "x".repeat(rng.random_range(0..=LONGEST_PADDING));
        let text = format!("{word} {:032x} {padding}", rng.random::<u128>());
        Self { custom_id: format!("item {number}"), key: None, kind, text }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn batches_have_every_kind_of_item_and_no_two_are_alike() {
        let mut rng = StdRng::seed_from_u64(7);
        let drawn: Vec<_> = (0..50).map(|number| BatchIntent::draw(number.to_string(), &mut rng)).collect();
        let prints: std::collections::BTreeSet<_> = drawn.iter().map(BatchIntent::fingerprint).collect();
        assert_eq!(prints.len(), drawn.len());
        let items = || drawn.iter().flat_map(|batch| &batch.items);
        for kind in [ItemKind::Sound, ItemKind::Corrupt, ItemKind::Alien, ItemKind::Troubled] {
            assert!(items().any(|item| item.kind == kind), "{kind:?} is never drawn");
        }
        assert!(drawn.iter().all(|batch| batch.body().lines().count() == batch.items.len()));
        assert!(drawn.iter().any(|batch| batch.hook.is_some()));
        let twins: Vec<_> = drawn.iter().filter_map(|batch| batch.twin(|| "other".to_owned())).collect();
        assert!((1..drawn.len()).contains(&twins.len()), "some have keys");
    }
}
