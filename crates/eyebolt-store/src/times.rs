//! Times in rows: microseconds since 1970.

use jiff::Timestamp;

use crate::StoreError;

pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, StoreError> {
    let read = Timestamp::from_microsecond(micros);
    read.map_err(|error| StoreError::Corrupt { what: format!("a time of {micros}: {error}") })
}

pub(crate) fn optional(micros: Option<i64>) -> Result<Option<Timestamp>, StoreError> {
    micros.map(timestamp).transpose()
}
