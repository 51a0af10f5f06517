//! What a client declares of its body (RFC 9530): `Repr-Digest` or `Content-Digest`, by SHA-256. No content coding is taken,
//! so the two are of the same bytes. Other algorithms are passed over, as the RFC has it.

use aws_lc_rs::digest::{Context, SHA256};
use eyebolt_types::ErrorCode;
use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::IngestError;
use crate::ApiError;

const FIELDS: [&str; 2] = ["repr-digest", "content-digest"];
const ALGORITHM: &str = "sha-256";

/// SHA-256 of a body as it was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeclaredDigest([u8; 32]);

impl DeclaredDigest {
    /// What the headers declare; `None`: nothing, or by algorithms that are not known here.
    ///
    /// # Errors
    /// Where they can't be read, or declare two different digests.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut declared = None;
        for field in FIELDS {
            let Some(digest) = read(headers, field)? else { continue };
            if declared.is_some_and(|other| other != digest) {
                return Err(unreadable(
                    "Repr-Digest and Content-Digest declare different digests of one body.",
                ));
            }
            declared = Some(digest);
        }
        Ok(declared.map(Self))
    }

    /// What the whole request is known by, without a look at its body: the same route, query, form and bytes ask the same.
    pub(crate) fn of_request(
        self,
        route: &str,
        (query, form): (Option<&str>, Option<&HeaderValue>),
    ) -> Vec<u8> {
        let mut context = Context::new(&SHA256);
        let form = form.map_or(&b""[..], HeaderValue::as_bytes);
        for part in
            [b"eyebolt body 1".as_slice(), route.as_bytes(), query.unwrap_or("").as_bytes(), form, &self.0]
        {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.finish().as_ref().to_vec()
    }
}

fn read(headers: &HeaderMap, field: &str) -> Result<Option<[u8; 32]>, ApiError> {
    let lines = headers.get_all(field).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
    if lines.is_empty() {
        return Ok(None);
    }
    let no_dictionary = |_| unreadable(&format!("The header {field} is no Dictionary of RFC 9651."));
    let dictionary: Dictionary = Parser::new(&lines).parse().map_err(no_dictionary)?;
    let Some(entry) = dictionary.get(ALGORITHM) else { return Ok(None) };
    if let ListEntry::Item(item) = entry
        && let BareItem::ByteSequence(bytes) = &item.bare_item
        && let Ok(digest) = bytes.as_slice().try_into()
    {
        return Ok(Some(digest));
    }
    Err(unreadable(&format!("{ALGORITHM} of the header {field} is no byte sequence of 32 bytes.")))
}

fn unreadable(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, detail).closing()
}

/// Compares a body with what was declared of it, as it comes.
pub(super) struct Comparison {
    declared: DeclaredDigest,
    so_far: Context,
}

impl Comparison {
    pub(super) fn with(declared: DeclaredDigest) -> Self {
        Self { declared, so_far: Context::new(&SHA256) }
    }

    pub(super) fn take(&mut self, piece: &[u8]) {
        self.so_far.update(piece);
    }

    /// At the end of the body.
    pub(super) fn finish(self) -> Result<(), IngestError> {
        let (found, declared) = (self.so_far.finish(), self.declared.0);
        if found.as_ref() == declared {
            return Ok(());
        }
        Err(IngestError::DigestMismatch { declared: hex::encode(declared), found: hex::encode(found) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";

    fn declared(lines: &[(&'static str, &str)]) -> Result<Option<DeclaredDigest>, ErrorCode> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        DeclaredDigest::of(&headers).map_err(|error| error.problem().code)
    }

    #[test]
    fn sha_256_is_read_from_either_field_and_other_algorithms_are_passed_over() {
        let empty = declared(&[("repr-digest", EMPTY)]).unwrap().unwrap();
        assert_eq!(hex::encode(empty.0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let both = [("repr-digest", "unixsum=30637"), ("content-digest", EMPTY), ("repr-digest", EMPTY)];
        assert_eq!(declared(&both), Ok(Some(empty)));
        assert_eq!(declared(&[("repr-digest", "md5=:AAAA:, unixsum=1")]), Ok(None));
        assert_eq!(declared(&[]), Ok(None));
    }

    #[test]
    fn what_can_not_be_a_digest_is_refused() {
        let other = EMPTY.replace("47DE", "57DE");
        for wrong in ["sha-256=:AAAA:", "sha-256", "sha-256=\"x\"", "sha-256=(:AAAA:)", "sha-256=:", "="] {
            let found = declared(&[("repr-digest", wrong)]);
            assert_eq!(found, Err(ErrorCode::InvalidRequest), "{wrong}");
        }
        let two = [("repr-digest", EMPTY), ("content-digest", &*other)];
        assert_eq!(declared(&two), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn another_route_query_or_form_is_another_request() {
        let digest = declared(&[("repr-digest", EMPTY)]).unwrap().unwrap();
        let form = HeaderValue::from_static("multipart/form-data; boundary=a");
        let first = digest.of_request("/v1/analyze", (Some("features=text"), Some(&form)));
        assert_eq!(digest.of_request("/v1/analyze", (Some("features=text"), Some(&form))), first);
        assert_ne!(digest.of_request("/v1/batches", (Some("features=text"), Some(&form))), first);
        assert_ne!(digest.of_request("/v1/analyze", (Some("features=faces"), Some(&form))), first);
        assert_ne!(digest.of_request("/v1/analyze", (Some("features=text"), None)), first);
    }
}
