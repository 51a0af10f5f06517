//! The room "idempotency": what a key looks like, and what makes two requests the same.

use aws_lc_rs::digest::{Context, SHA256, digest};
use eyebolt_types::{AnalyzeRequest, ErrorCode, request::Degrade};
use http::{HeaderMap, HeaderName};

use crate::ApiError;

/// The header that carries the key.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The route whose fingerprints count wherever one image is asked about: for an item of a batch as for a call of its own.
pub(crate) const ANALYZE: &str = "/v1/analyze";

/// Characters of a key at most.
const MAX_KEY: usize = 255;

/// A client's name for one intent: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of a request, where it has one. Bare or quoted (a String of RFC 9651), it is the same key.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(invalid("The header Idempotency-Key is there more than once."));
        }
        let text = value.to_str().map_err(|_| invalid("The key has characters other than visible ASCII."))?;
        Self::written(text).map(Some)
    }

    /// A key as a header or an item of a batch has it: bare or quoted.
    pub(crate) fn written(text: &str) -> Result<Self, ApiError> {
        let key = if text.starts_with('"') { unquoted(text)? } else { text.to_owned() };
        Self::named(&key)
    }

    /// As [`IdempotencyKey::of`], where a key must be there.
    pub(crate) fn required(headers: &HeaderMap) -> Result<Self, ApiError> {
        Self::of(headers)?.ok_or_else(|| {
            let detail = "The header Idempotency-Key is missing.";
            let mut error = ApiError::new(ErrorCode::IdempotencyKeyMissing, detail).closing();
            error.problem_mut().params.insert("header".to_owned(), "Idempotency-Key".into());
            error
        })
    }

    /// A key as it is written without quotes.
    pub(crate) fn named(key: &str) -> Result<Self, ApiError> {
        if key.is_empty() {
            return Err(invalid("The key is empty."));
        }
        if key.len() > MAX_KEY {
            let detail = format!("The key has {} characters, more than {MAX_KEY}.", key.len());
            let mut error = invalid(&detail);
            let params = &mut error.problem_mut().params;
            params.insert("limit_name".to_owned(), "max_idempotency_key".into());
            params.insert("limit".to_owned(), MAX_KEY.into());
            params.insert("found".to_owned(), key.len().into());
            return Err(error);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("The key has characters other than visible ASCII."));
        }
        Ok(Self(key.to_owned()))
    }

    /// The key itself, without quotes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the store knows it by: the key itself may say something about a client's customers.
    pub(crate) fn hash(&self) -> Vec<u8> {
        digest(&SHA256, self.0.as_bytes()).as_ref().to_vec()
    }
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::IdempotencyKeyInvalid, detail).closing()
}

/// The content of a String of RFC 9651; parameters after it say nothing.
fn unquoted(text: &str) -> Result<String, ApiError> {
    let item: sfv::Item = sfv::Parser::new(text)
        .parse()
        .map_err(|_| invalid("The key begins with a quote, and is no String of RFC 9651."))?;
    match item.bare_item {
        sfv::BareItem::String(key) => Ok(key.as_str().to_owned()),
        _ => Err(invalid("The key begins with a quote, and is no String of RFC 9651.")),
    }
}

/// What a request without a body is known by before anything else of it is looked at.
pub(crate) fn route_digest(route: &str) -> Vec<u8> {
    digest(&SHA256, route.as_bytes()).as_ref().to_vec()
}

/// What a request is known by: 32 bytes that are equal where the same is asked of the same image. The route counts, the
/// settings with their defaults, and the image's content; not the form of the body, the order or boundary of its parts,
/// or the file's name. `reprocess` does not count: the key wins over it.
pub(crate) fn fingerprint(route: &str, request: &AnalyzeRequest, sha256: &[u8; 32]) -> Vec<u8> {
    let asked = AnalyzeRequest { reprocess: false, ..request.clone() };
    // The fields of a struct are written in the order of their declaration, so that equal requests are equal bytes.
    let asked = serde_json::to_vec(&asked).expect("a request is plain data");
    let mut context = Context::new(&SHA256);
    for part in [b"eyebolt request 1".as_slice(), b"POST", route.as_bytes(), &asked, sha256] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// What a request asks of any image, by the snapshots that answer: two jobs of one operation on one image have the same
/// results.
pub(crate) fn operation(frozen: &AnalyzeRequest) -> [u8; 32] {
    let asked =
        AnalyzeRequest { reprocess: false, degrade: Degrade::Never, webhook_url: None, ..frozen.clone() };
    let digest = digest(&SHA256, &serde_json::to_vec(&asked).expect("a request is plain data"));
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use eyebolt_types::Feature;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn key(value: &[u8]) -> Result<Option<IdempotencyKey>, ErrorCode> {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap())]);
        IdempotencyKey::of(&headers).map_err(|error| error.problem().code)
    }

    // Matrix row 38.
    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters_bare_or_quoted() {
        let plain = key(b"8e03978e-40d5").unwrap().unwrap();
        assert_eq!(key(b"\"8e03978e-40d5\""), Ok(Some(plain)));
        assert_eq!(key(b"\"a\\\"b\""), key(b"a\"b"));
        assert_eq!(key("k".repeat(255).as_bytes()).unwrap().unwrap().0.len(), 255);
        let long = "k".repeat(256);
        for bad in [
            b"".as_slice(),
            b"\"\"",
            b"a b",
            b"\"a b\"",
            b"\"open",
            b"a\tb",
            "schlüssel".as_bytes(),
            long.as_bytes(),
        ] {
            assert_eq!(key(bad), Err(ErrorCode::IdempotencyKeyInvalid), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(IdempotencyKey::of(&HeaderMap::new()).unwrap(), None);
        let mut twice = HeaderMap::new();
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert!(IdempotencyKey::of(&twice).is_err());
    }

    // Matrix rows 4, 5, 8, 15.
    #[test]
    fn another_image_setting_or_route_is_another_request_and_reprocess_is_not() {
        let asked = AnalyzeRequest::of([Feature::Objects]);
        let first = fingerprint("/v1/analyze", &asked, &[0; 32]);
        let again = AnalyzeRequest { reprocess: true, ..asked.clone() };
        assert_eq!(fingerprint("/v1/analyze", &again, &[0; 32]), first);
        let mut other = asked.clone();
        other.parameters.objects.min_confidence = Some(0.5);
        assert_ne!(fingerprint("/v1/analyze", &other, &[0; 32]), first);
        assert_ne!(fingerprint("/v1/analyze", &asked, &[1; 32]), first);
        let told = AnalyzeRequest { webhook_url: Some("https://a.example/".to_owned()), ..asked.clone() };
        assert_ne!(fingerprint("/v1/analyze", &told, &[0; 32]), first);
        assert_eq!(operation(&told), operation(&asked), "who is told changes no result");
        assert_ne!(fingerprint("/v1/batches", &asked, &[0; 32]), first);
    }

    proptest! {
        #[test]
        fn quoting_a_key_changes_nothing(text in "[!-~]{1,255}") {
            prop_assume!(!text.starts_with('"'));
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(key(quoted.as_bytes()), key(text.as_bytes()));
        }
    }
}
