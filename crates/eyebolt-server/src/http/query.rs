//! What requests that only read say in their query.

use std::fmt;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use jiff::{Timestamp, civil::Date};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Unexpected, Visitor},
};

use crate::{
    ApiError,
    ingest::{IngestError, of_texts},
};

/// Where a handler wants to look at the query only after it has looked at the caller.
pub(super) type InQuery<T> = Result<Said<T>, ApiError>;

/// The settings in a query. Each mistake is told by the name of its setting.
#[derive(Debug)]
pub(super) struct Said<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Said<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = pairs.map_err(|_| IngestError::Query)?;
        Ok(Self(of_texts(&pairs)?))
    }
}

/// How many are wanted on a page: 1 to `MOST`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageSize<const MOST: u32 = 100>(u32);

impl<const MOST: u32> PageSize<MOST> {
    /// So many, or `standard` where nothing is said.
    pub(super) fn or(said: Option<Self>, standard: u32) -> u32 {
        said.map_or(standard, |said| said.0)
    }
}

impl<'de, const MOST: u32> Deserialize<'de> for PageSize<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InRange<const MOST: u32>;

        impl<const MOST: u32> Visitor<'_> for InRange<MOST> {
            type Value = u32;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 1 to {MOST}")
            }

            fn visit_u64<E: Error>(self, found: u64) -> Result<u32, E> {
                let wrong = || E::invalid_value(Unexpected::Unsigned(found), &self);
                u32::try_from(found).ok().filter(|found| (1..=MOST).contains(found)).ok_or_else(wrong)
            }
        }

        deserializer.deserialize_u32(InRange::<MOST>).map(Self)
    }
}

/// An instant. The library's own message tells of single characters, not of what is wanted.
pub(super) fn instant<'de, D: Deserializer<'de>>(value: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(value)?;
    let wanted = "an RFC 3339 time, such as 2026-11-24T12:00:00Z";
    text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &wanted))
}

/// The same where it may be left out.
pub(super) fn maybe_instant<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Timestamp>, D::Error> {
    instant(value).map(Some)
}

/// A day that may be left out.
pub(super) fn maybe_day<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Date>, D::Error> {
    let text = String::deserialize(value)?;
    let wanted = "a day, such as 2026-11-24";
    text.parse().map(Some).map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &wanted))
}
