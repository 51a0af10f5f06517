//! The secret of an API key: `eb_live_` or `eb_test_`, 30 random base62 digits, and 6 that check them (CRC-32), so that
//! a mistyped key is told from a wrong one, and scanners of leaked secrets can be sure.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use eyebolt_types::Mode;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM: usize = 30;
const CHECK: usize = 6;

/// A secret, shown once and stored nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiSecret {
    text: String,
    mode: Mode,
}

impl ApiSecret {
    /// A new one: 178 random bits.
    ///
    /// # Panics
    /// Where the system has no random numbers: nothing can go on without.
    pub fn generate(mode: Mode) -> Self {
        let mut text = prefix(mode).to_owned();
        let end = text.len() + RANDOM;
        while text.len() < end {
            let mut bytes = [0; 64];
            rand::fill(&mut bytes).expect("the system has random numbers");
            // 248 is 4 × 62: above it a remainder would favour the first digits.
            let fair = bytes.iter().filter(|&&byte| byte < 248).take(end - text.len());
            text.extend(fair.map(|&byte| char::from(DIGITS[usize::from(byte % 62)])));
        }
        let check = check_digits(&text);
        text.push_str(&check);
        Self { text, mode }
    }

    /// Reads what a client sent. `None` where it can't be a key: no look-up is needed.
    pub fn parse(text: &str) -> Option<Self> {
        let mode = [Mode::Live, Mode::Test].into_iter().find(|&mode| text.starts_with(prefix(mode)))?;
        let digits = text.strip_prefix(prefix(mode))?;
        let shaped =
            digits.len() == RANDOM + CHECK && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !shaped || !text.ends_with(&check_digits(&text[..text.len() - CHECK])) {
            return None;
        }
        Some(Self { text: text.to_owned(), mode })
    }

    /// The whole secret, to show it once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Real or sandbox: the key decides.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its last four digits, by which people recognise it.
    pub fn hint(&self) -> &str {
        &self.text[self.text.len() - 4..]
    }
}

impl fmt::Debug for ApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…{}", prefix(self.mode), self.hint())
    }
}

fn prefix(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "eb_live_",
        Mode::Test => "eb_test_",
    }
}

fn check_digits(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// Hashes secrets with a key that is not in the database: whoever steals the rows can't try secrets against them.
#[derive(Clone)]
pub struct KeyHasher(hmac::Key);

impl KeyHasher {
    /// From the operator's secret bytes.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// HMAC-SHA-256 of the secret.
    pub fn hash(&self, secret: &ApiSecret) -> Vec<u8> {
        hmac::sign(&self.0, secret.text.as_bytes()).as_ref().to_vec()
    }

    /// A key for another purpose, from the same secret bytes.
    ///
    /// # Panics
    /// Never: HMAC-SHA-256 has 32 bytes.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let derived = hmac::sign(&self.0, format!("key for {purpose}").as_bytes());
        derived.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// What tells this hasher from one with other secret bytes, and tells nothing else: see
    /// [`crate::Store::knows_hasher`]. No API key begins like its text, so it is the hash of none.
    pub fn check(&self) -> Vec<u8> {
        hmac::sign(&self.0, b"check of the key secret").as_ref().to_vec()
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_one_wrong_digit_is_seen() {
        for mode in [Mode::Live, Mode::Test] {
            let secret = ApiSecret::generate(mode);
            assert_eq!(ApiSecret::parse(secret.reveal()), Some(secret.clone()));
            assert_eq!(secret.reveal().len(), 8 + RANDOM + CHECK);
            for at in 0..secret.reveal().len() {
                let mut wrong = secret.reveal().to_owned().into_bytes();
                wrong[at] = if wrong[at] == b'7' { b'8' } else { b'7' };
                assert_eq!(ApiSecret::parse(std::str::from_utf8(&wrong).unwrap()), None, "digit {at}");
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = ApiSecret::generate(Mode::Live);
        assert_eq!(format!("{secret:?}"), format!("eb_live_…{}", secret.hint()));
    }
}
