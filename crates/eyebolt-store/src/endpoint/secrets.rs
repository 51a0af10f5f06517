//! The secrets that messages are signed with, sealed.

use eyebolt_types::{
    Mode,
    id::{EndpointId, ProjectId},
};
use jiff::Timestamp;

use super::PROJECT;
use crate::{
    Store, StoreError,
    database::{Row, Value},
    times,
};

/// What a secret belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretOwner {
    /// One endpoint.
    Endpoint(EndpointId),
    /// All endpoints of kind `requests` of a project and mode.
    Project(ProjectId, Mode),
}

/// A secret, sealed by whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Counts the secrets of its owner, from 1.
    pub number: u64,
    /// The secret.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when messages are signed with it; `None`: until another takes its place.
    pub expires_at: Option<Timestamp>,
}

const SECRETS: &str = "SELECT number, sealed, created_at, expires_at FROM webhook_secrets WHERE owner = $1 \
                       AND (expires_at IS NULL OR expires_at > $2) ORDER BY number DESC";
const NUMBER: &str = "SELECT COALESCE(MAX(number), 0) FROM webhook_secrets WHERE owner = $1";
const EXPIRE: &str = "UPDATE webhook_secrets SET expires_at = $2 WHERE owner = $1 \
                      AND (expires_at IS NULL OR expires_at > $2)";
const FORGET: &str = "DELETE FROM webhook_secrets WHERE owner = $1 AND expires_at <= $2";
const HOLD: &str = "SELECT id FROM webhook_endpoints WHERE id = $1 FOR UPDATE";
pub(super) const ADD: &str =
    "INSERT INTO webhook_secrets (owner, number, sealed, created_at) VALUES ($1, $2, $3, $4)";

impl Store {
    /// Secrets that messages are signed with now, the newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn secrets(&self, owner: SecretOwner, now: Timestamp) -> Result<Vec<SealedSecret>, StoreError> {
        let parameters = [owner_name(owner).into(), times::micros(now).into()];
        let rows = self.database.read(move |transaction| transaction.query(SECRETS, &parameters)).await?;
        rows.iter().map(secret).collect()
    }

    /// Adds a secret; those before it end at `overlap_until`, or before. Where `most` would be left of them: how many, and
    /// nothing was done.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_secret(
        &self,
        (owner, sealed): (SecretOwner, Vec<u8>),
        (overlap_until, most): (Timestamp, u64),
        now: Timestamp,
    ) -> Result<Result<SealedSecret, u64>, StoreError> {
        self.database
            .write(move |transaction| {
                let owned = || -> Value { owner_name(owner).into() };
                let now = times::micros(now);
                match owner {
                    SecretOwner::Endpoint(id) => transaction.query_one(HOLD, &[id.to_string().into()])?,
                    SecretOwner::Project(id, _) => {
                        transaction.query_one(PROJECT, &[id.to_string().into()])?
                    }
                };
                let overlap_until = times::micros(overlap_until);
                let there = transaction.query(SECRETS, &[owned(), now.into()])?.len() as u64;
                // Without an overlap none of them is left.
                if overlap_until > now && there >= most {
                    return Ok(Err(there));
                }
                let number = transaction.query_one(NUMBER, &[owned()])?;
                let number = number.map_or(Ok(0), |row| row.integer(0))? + 1;
                transaction.execute(EXPIRE, &[owned(), overlap_until.into()])?;
                transaction.execute(FORGET, &[owned(), now.into()])?;
                transaction.execute(ADD, &[owned(), number.into(), sealed.as_slice().into(), now.into()])?;
                let (number, sealed) = (number.unsigned_abs(), sealed.clone());
                Ok(Ok(SealedSecret { number, sealed, created_at: times::timestamp(now)?, expires_at: None }))
            })
            .await
    }
}

fn owner_name(owner: SecretOwner) -> String {
    match owner {
        SecretOwner::Endpoint(id) => id.to_string(),
        SecretOwner::Project(project, mode) => format!("{project}/{}", mode.name()),
    }
}

fn secret(row: &Row) -> Result<SealedSecret, StoreError> {
    Ok(SealedSecret {
        number: row.integer(0)?.unsigned_abs(),
        sealed: row.blob(1)?,
        created_at: times::timestamp(row.integer(2)?)?,
        expires_at: times::optional(row.optional_integer(3)?)?,
    })
}
