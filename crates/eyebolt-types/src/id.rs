//! Ids: a prefix that tells what is named, and a UUID version 7, so that ids sort by age.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later in order than every earlier one of this process.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let rest = text.strip_prefix(concat!($prefix, "_")).ok_or(InvalidId)?;
                if rest.len() != 32 || rest.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(InvalidId);
                }
                Uuid::try_parse(rest).map(Self).map_err(|_| InvalidId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|_| {
                    let wanted = concat!("an id that begins with ", $prefix, "_");
                    serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &wanted)
                })
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-f]{32}$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )*};
}

ids! {
    /// Names one customer of the operator.
    ProjectId = "proj";
    /// Names one API key; not its secret.
    KeyId = "key";
    /// Names one job.
    JobId = "job";
    /// Names one batch of images.
    BatchId = "batch";
    /// Names one step of a job.
    StepId = "step";
    /// Names one image that a project sent.
    ImageId = "img";
    /// Names one request, in answers and in the log.
    RequestId = "req";
    /// Names one time in which a client ran away.
    RunawayId = "run";
    /// Names one webhook endpoint.
    EndpointId = "ep";
    /// Names one event: what it is made of is the same after a crash, so it is too.
    EventId = "evt";
}

impl EventId {
    /// The id of these bytes: a part of a digest.
    pub const fn of(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// The text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_another_kind_is_refused() {
        let id = JobId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().parse::<ImageId>(), Err(InvalidId));
        assert_eq!(id.to_string().to_uppercase().parse::<JobId>(), Err(InvalidId));
    }

    #[test]
    fn ids_sort_by_age() {
        let ids: Vec<_> = (0..100).map(|_| JobId::new().to_string()).collect();
        assert!(ids.is_sorted());
    }
}
