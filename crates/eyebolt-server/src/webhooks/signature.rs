//! Signatures of Standard Webhooks 1.0: over `id.timestamp.body`, by HMAC-SHA-256 (`v1`) or Ed25519 (`v1a`).

use std::fmt;

use aws_lc_rs::{
    hmac, rand,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use eyebolt_types::id::EventId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bytes of a secret: of an HMAC key, and of an Ed25519 seed.
const SECRET: usize = 32;

/// How messages are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// With a secret that both sides know (HMAC-SHA-256).
    #[default]
    V1,
    /// With a key that only this server has; the receiver needs the public one alone (Ed25519).
    V1a,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        if name == "v1a" { Self::V1a } else { Self::V1 }
    }
}

/// What messages are signed with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    pub(super) scheme: Scheme,
    pub(super) bytes: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.scheme.name())
    }
}

impl Secret {
    /// A new one.
    pub(super) fn generate(scheme: Scheme) -> Self {
        let mut bytes = vec![0; SECRET];
        rand::fill(&mut bytes).expect("the system has random numbers");
        Self { scheme, bytes }
    }

    /// What the receiver needs to verify: `whsec_…`, or the public key as `whpk_…`.
    pub(super) fn shown(&self) -> String {
        match self.scheme {
            Scheme::V1 => format!("whsec_{}", STANDARD.encode(&self.bytes)),
            Scheme::V1a => {
                let public = self.key_pair().map(|pair| pair.public_key().as_ref().to_vec());
                format!("whpk_{}", STANDARD.encode(public.unwrap_or_default()))
            }
        }
    }

    fn key_pair(&self) -> Option<Ed25519KeyPair> {
        Ed25519KeyPair::from_seed_unchecked(&self.bytes).ok()
    }

    /// One signature of a message; `timestamp` in seconds since 1970.
    pub(super) fn sign(&self, id: EventId, timestamp: i64, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let signature = match self.scheme {
            Scheme::V1 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bytes);
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Scheme::V1a => {
                let pair = self.key_pair().expect("a seed of 32 bytes makes a pair");
                pair.sign(signed.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{},{}", self.scheme.name(), STANDARD.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// The vector of the reference libraries has an id that is none of ours; this one was made with the library of `PyPI`:
    /// `Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").sign(ID, datetime.fromtimestamp(1614265330), BODY)`.
    #[test]
    fn a_message_is_signed_as_the_reference_library_does() {
        let bytes = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = Secret { scheme: Scheme::V1, bytes };
        let id = EventId::of([0x11; 16]);
        let signed = secret.sign(id, 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,go/Qvyu+L1awvLrlgCZ6xsF/kRo6sVs6EfvjrIGC1lI=");
        assert_eq!(secret.shown(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn what_the_private_key_signs_the_public_one_verifies() {
        let secret = Secret::generate(Scheme::V1a);
        let public = STANDARD.decode(secret.shown().strip_prefix("whpk_").unwrap()).unwrap();
        let id = EventId::of([1; 16]);
        let signed = secret.sign(id, 7, "{}");
        let signature = STANDARD.decode(signed.strip_prefix("v1a,").unwrap()).unwrap();
        let verifies = |message: &str| {
            UnparsedPublicKey::new(&ED25519, &public).verify(message.as_bytes(), &signature).is_ok()
        };
        assert!(verifies(&format!("{id}.7.{{}}")));
        assert!(!verifies(&format!("{id}.8.{{}}")));
        assert_eq!(format!("{secret:?}"), "Secret(v1a)");
    }
}
