//! Values, rows and errors, as the server has them.

use std::error::Error;

use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

use super::super::{Row, Value};
use crate::StoreError;

pub(super) fn borrowed(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

pub(super) fn row(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let value = |index: usize, kind: &Type| -> Result<Value, StoreError> {
        Ok(match *kind {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.into(),
            Type::TEXT | Type::VARCHAR => row.try_get::<_, Option<String>>(index)?.into(),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index)?.into(),
            _ => return Err(StoreError::Corrupt { what: format!("a column of type {kind}") }),
        })
    };
    let columns = row.columns().iter().enumerate();
    Ok(Row(columns.map(|(index, column)| value(index, column.type_())).collect::<Result<_, _>>()?))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(tokio_postgres::types::IsNull::Yes),
            // The server takes `$1 - 60` for 32 bits: such a statement is wrong, and would be told only by chance.
            Self::Integer(_) if *kind != Type::INT8 => {
                Err(format!("a parameter is {kind}, not BIGINT").into())
            }
            Self::Integer(value) => value.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Of a connection that can't be made.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn unavailable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable { reason: told(&error) }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let reason = told(&error);
        let Some(state) = error.code() else { return Self::Unavailable { reason } };
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Self::Conflict,
            SqlState::DISK_FULL => Self::Full,
            // 57: the server stops or ended this connection; 08: the connection broke; 53: out of something.
            _ if ["57", "08", "53"].iter().any(|class| state.code().starts_with(class)) => {
                Self::Unavailable { reason }
            }
            _ => Self::Database { reason },
        }
    }
}

/// The server's own words, or the error with its causes: alone it says "db error" or "error connecting to server".
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    let (mut told, mut cause) = (error.to_string(), error.source());
    while let Some(deeper) = cause {
        told = format!("{told}: {deeper}");
        cause = deeper.source();
    }
    told
}
