//! Settings of a request that only reads, out of its query: each from its own text.

use eyebolt_types::{ErrorCode, FieldError};
use serde::{
    Deserializer,
    de::{
        DeserializeOwned, IntoDeserializer, Visitor,
        value::{Error, MapDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{IngestError, request::field_error};
use crate::problem::shown;

/// Mistakes that are told at once at most: a query may be long.
const MOST_TOLD: usize = 20;

/// Reads settings, each of which may be left out.
///
/// # Errors
/// Every name that is not known or stands there twice, and every value that can't be read.
pub(crate) fn of_texts<T: DeserializeOwned>(said: &[(String, String)]) -> Result<T, IngestError> {
    let mut errors = Vec::new();
    for (at, (name, text)) in said.iter().enumerate() {
        let twice = said[..at].iter().any(|(before, _)| before == name);
        let error = if twice {
            Some(FieldError::new(shown(name), ErrorCode::InvalidParameter, "stands there twice"))
        } else {
            read::<T>(&[(name, text)]).err().map(|error| field_error(shown(name), &error.to_string()))
        };
        errors.extend(error);
        if errors.len() == MOST_TOLD {
            break;
        }
    }
    if !errors.is_empty() {
        return Err(IngestError::Fields(errors));
    }
    let all: Vec<_> = said.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    read(&all).map_err(|error| IngestError::Fields(vec![field_error(String::new(), &error.to_string())]))
}

fn read<T: DeserializeOwned>(said: &[(&str, &str)]) -> Result<T, Error> {
    T::deserialize(MapDeserializer::new(said.iter().map(|(name, text)| (*name, Text(text)))))
}

/// A value in a query. What it is, whoever reads it says.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl IntoDeserializer<'_, Error> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u64(number),
            Err(_) => visitor.visit_str(self.0),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}
