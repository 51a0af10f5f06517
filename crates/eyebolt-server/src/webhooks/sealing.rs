//! Secrets of endpoints must be read again to sign with them. They are sealed in their rows (AES-256-GCM) by a key that is
//! not in the database: whoever steals the rows can sign nothing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use eyebolt_store::KeyHasher;

use super::signature::{Scheme, Secret};

const NONCE: usize = 12;

/// Seals and opens.
pub(super) struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// With a key of its own, made of the operator's secret.
    pub(super) fn new(hasher: &KeyHasher) -> Self {
        let key = hasher.derive("sealing of webhook secrets");
        Self(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("the key has 32 bytes"))
    }

    /// A secret of this owner: in another's row it can't be opened.
    pub(super) fn seal(&self, owner: &str, secret: &Secret) -> Vec<u8> {
        let mut sealed = secret.bytes.clone();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(bound(owner, secret.scheme)), &mut sealed);
        let nonce = nonce.expect("a short text can be sealed");
        [nonce.as_ref().as_slice(), &sealed].concat()
    }

    /// `None` where it was sealed with another key, for another owner or scheme, or is damaged.
    pub(super) fn open(&self, owner: &str, (scheme, sealed): (Scheme, &[u8])) -> Option<Secret> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(bound(owner, scheme)), &mut bytes).ok()?.len();
        bytes.truncate(opened);
        Some(Secret { scheme, bytes })
    }
}

fn bound(owner: &str, scheme: Scheme) -> Vec<u8> {
    format!("{owner} {}", scheme.name()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_by_its_key_for_its_owner_alone() {
        let sealer = Sealer::new(&KeyHasher::new(b"one"));
        let secret = Secret::generate(Scheme::V1);
        let sealed = sealer.seal("ep_1", &secret);
        assert_ne!(sealed, sealer.seal("ep_1", &secret), "each seal is new");
        assert!(!sealed.windows(8).any(|part| part == &secret.bytes[..8]));
        assert_eq!(sealer.open("ep_1", (Scheme::V1, &sealed)), Some(secret));
        assert_eq!(sealer.open("ep_2", (Scheme::V1, &sealed)), None);
        assert_eq!(sealer.open("ep_1", (Scheme::V1a, &sealed)), None);
        assert_eq!(sealer.open("ep_1", (Scheme::V1, &sealed[1..])), None);
        assert_eq!(sealer.open("ep_1", (Scheme::V1, b"short")), None);
        assert_eq!(Sealer::new(&KeyHasher::new(b"two")).open("ep_1", (Scheme::V1, &sealed)), None);
    }
}
