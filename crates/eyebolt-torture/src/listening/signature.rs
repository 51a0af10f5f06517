//! Signatures of Standard Webhooks 1.0, seen from the receiver: over `id.timestamp.body`, by a secret that both sides know
//! or by a key of which the receiver has the public half.

use anyhow::{Context, bail};
use aws_lc_rs::{
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// What a receiver verifies with.
pub(super) enum Verifier {
    /// `v1`.
    Shared(Box<hmac::Key>),
    /// `v1a`.
    Public(Vec<u8>),
}

impl Verifier {
    /// From `whsec_…` or `whpk_…`.
    pub(super) fn of(secret: &str) -> anyhow::Result<Self> {
        let (kind, bytes) = secret.split_once('_').context("a secret has a kind")?;
        let bytes = STANDARD.decode(bytes)?;
        match kind {
            "whsec" => Ok(Self::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))),
            "whpk" => Ok(Self::Public(bytes)),
            _ => bail!("a secret of the kind {kind} is not known"),
        }
    }

    /// Whether one of these signatures, with spaces between, is of this message.
    pub(super) fn accepts(&self, (id, timestamp): (&str, &str), body: &[u8], signatures: &str) -> bool {
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        signatures.split(' ').any(|signature| match (self, signature.split_once(',')) {
            (Self::Shared(key), Some(("v1", tag))) => {
                STANDARD.decode(tag).is_ok_and(|tag| hmac::verify(key, &signed, &tag).is_ok())
            }
            (Self::Public(key), Some(("v1a", tag))) => STANDARD
                .decode(tag)
                .is_ok_and(|tag| UnparsedPublicKey::new(&ED25519, key).verify(&signed, &tag).is_ok()),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// The vector of the specification's reference libraries.
    #[test]
    fn a_message_of_the_reference_library_is_accepted_and_no_other() {
        let verifier = Verifier::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let tag = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(verifier.accepts((id, "1614265330"), body, tag));
        assert!(verifier.accepts((id, "1614265330"), body, &format!("v1,AAAA v1a,AAAA {tag}")));
        for (at, body, tag) in [
            ((id, "1614265331"), &body[..], tag),
            (("msg_other", "1614265330"), &body[..], tag),
            ((id, "1614265330"), &b"{}"[..], tag),
            ((id, "1614265330"), &body[..], "v1,g0hM9SsE"),
            ((id, "1614265330"), &body[..], ""),
            ((id, "1614265330"), &body[..], &tag.replace("v1,", "v2,")),
        ] {
            assert!(!verifier.accepts(at, body, tag), "{at:?} {tag}");
        }
    }

    #[test]
    fn a_public_key_accepts_what_its_private_one_signed() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()));
        let tag = format!("v1a,{}", STANDARD.encode(pair.sign(b"evt_1.5.{}")));
        let verifier = Verifier::of(&public).unwrap();
        assert!(verifier.accepts(("evt_1", "5"), b"{}", &tag));
        assert!(!verifier.accepts(("evt_1", "6"), b"{}", &tag));
        assert!(Verifier::of("whatever_AAAA").is_err() && Verifier::of("secret").is_err());
    }
}
