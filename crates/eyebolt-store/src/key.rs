use eyebolt_types::{
    DedupPolicy, LimitOverrides, Limits, Mode, Scope,
    id::{KeyId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Store, StoreError, cap,
    database::{Row, Value},
    project, times,
};

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// [`crate::KeyHasher::hash`] of the secret.
    pub hash: Vec<u8>,
    /// [`crate::ApiSecret::hint`].
    pub hint: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// What it may use, beside the limits of its project.
    pub limits: Limits,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name in ids.
    pub id: KeyId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// What people call it.
    pub name: String,
    /// The secret's last four digits.
    pub hint: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// How long it was made to last, before a rotation set its end; none: without end.
    pub made_for: Option<SignedDuration>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last shown, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// What it may use, beside the limits of its project.
    pub limits: Limits,
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key that was shown.
    pub key: KeyId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Of its project.
    pub dedup_policy: Option<DedupPolicy>,
    /// Of its project.
    pub plan: Option<String>,
    /// Of its project.
    pub limits: LimitOverrides,
    /// Of the key itself.
    pub key_limits: Limits,
}

/// What a shown key is worth. Whoever shows the whole secret may be told why it is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It opens this.
    Valid(Principal),
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// Nobody has it.
    Unknown,
}

const INSERT: &str = "INSERT INTO api_keys (id, project_id, mode, name, hash, hint, scopes, created_at, expires_at, \
                      rotated_from, limits) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const BY_HASH: &str = "SELECT k.id, k.project_id, k.mode, k.scopes, k.expires_at, k.revoked_at, p.dedup_policy, p.plan, p.limits, k.limits \
     FROM api_keys k JOIN projects p ON p.id = k.project_id WHERE k.hash = $1";
const BY_KEY: &str = "SELECT k.id, k.project_id, k.mode, k.scopes, k.expires_at, k.revoked_at, p.dedup_policy, p.plan, p.limits, k.limits \
     FROM api_keys k JOIN projects p ON p.id = k.project_id WHERE k.id = $1";
const OF_PROJECT: &str = "SELECT id, project_id, mode, name, hint, scopes, created_at, expires_at, revoked_at, \
                          last_used_at, limits, made_for FROM api_keys WHERE project_id = $1 ORDER BY id";
const BY_ID: &str = "SELECT id, project_id, mode, name, hint, scopes, created_at, expires_at, revoked_at, \
                     last_used_at, limits, made_for FROM api_keys WHERE id = $1";
const LIMIT: &str = "UPDATE api_keys SET limits = $1 WHERE id = $2 RETURNING project_id";
const REVOKE: &str = "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
/// An end that is there already is never put off.
const ROTATE: &str = "UPDATE api_keys SET made_for = COALESCE(made_for, expires_at - created_at, 0), \
                      expires_at = CASE WHEN expires_at IS NULL OR expires_at > $1 THEN $1 ELSE expires_at END \
                      WHERE id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)";
const USED: &str = "UPDATE api_keys SET last_used_at = $1 WHERE id = $2 \
                    AND (last_used_at IS NULL OR last_used_at + 60000000 <= $1)";

impl Store {
    /// Makes a key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_key(&self, key: NewKey, now: Timestamp) -> Result<KeyId, StoreError> {
        let id = KeyId::new();
        self.database
            .write(move |transaction| {
                transaction.execute(INSERT, &row(id, &key, (now, None)))?;
                Ok(id)
            })
            .await
    }

    /// Makes a key that takes another's place; the old one works on until `overlap_until`, or ends before as it would have.
    /// `None` where the old one is revoked or over.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn rotate_key(
        &self,
        (old, overlap_until): (KeyId, Timestamp),
        key: NewKey,
        now: Timestamp,
    ) -> Result<Option<KeyId>, StoreError> {
        let id = KeyId::new();
        self.database
            .write(move |transaction| {
                let until = times::micros(overlap_until).into();
                let ends = [until, old.to_string().into(), times::micros(now).into()];
                if transaction.execute(ROTATE, &ends)? == 0 {
                    return Ok(None);
                }
                transaction.execute(INSERT, &row(id, &key, (now, Some(old))))?;
                Ok(Some(id))
            })
            .await
    }

    /// Gives a key these limits, in place of those that it had. Whether it was there.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn limit_key(&self, key: KeyId, limits: Limits) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                let row = [written(&limits), key.to_string().into()];
                let Some(row) = transaction.query_one(LIMIT, &row)? else { return Ok(false) };
                transaction.query_all(&[cap::doubt(row.parsed(0)?)])?;
                Ok(true)
            })
            .await
    }

    /// Ends a key now. Whether it was there and valid.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revoke_key(&self, key: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                Ok(transaction.execute(REVOKE, &[times::micros(now).into(), key.to_string().into()])? == 1)
            })
            .await
    }

    /// What the key of this hash is worth now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authenticate(&self, hash: Vec<u8>, now: Timestamp) -> Result<Shown, StoreError> {
        let found =
            self.database.read(move |transaction| transaction.query_one(BY_HASH, &[hash.as_slice().into()]));
        let Some(row) = found.await? else { return Ok(Shown::Unknown) };
        if row.optional_integer(5)?.is_some() {
            return Ok(Shown::Revoked);
        }
        if row.optional_integer(4)?.is_some_and(|ends| ends <= times::micros(now)) {
            return Ok(Shown::Expired);
        }
        Ok(Shown::Valid(principal(&row)?))
    }

    /// Whose a key is, and under which limits, whether or not it is still worth something: what was accepted goes on.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn principal(&self, key: KeyId) -> Result<Option<Principal>, StoreError> {
        let row =
            self.database.read(move |transaction| transaction.query_one(BY_KEY, &[key.to_string().into()]));
        row.await?.as_ref().map(principal).transpose()
    }

    /// Notes that a key was shown; at most one write a minute changes a row.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn key_used(&self, key: KeyId, now: Timestamp) -> Result<(), StoreError> {
        self.database
            .write(move |transaction| {
                transaction.execute(USED, &[times::micros(now).into(), key.to_string().into()])?;
                Ok(())
            })
            .await
    }

    /// What is known of one key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn key(&self, key: KeyId) -> Result<Option<KeyInfo>, StoreError> {
        let found =
            self.database.read(move |transaction| transaction.query_one(BY_ID, &[key.to_string().into()]));
        found.await?.as_ref().map(info).transpose()
    }

    /// All keys of a project, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keys(&self, project: ProjectId) -> Result<Vec<KeyInfo>, StoreError> {
        let rows = self
            .database
            .read(move |transaction| transaction.query(OF_PROJECT, &[project.to_string().into()]));
        rows.await?.iter().map(info).collect()
    }
}

fn row(id: KeyId, key: &NewKey, (now, old): (Timestamp, Option<KeyId>)) -> [Value; 11] {
    [
        id.to_string().into(),
        key.project.to_string().into(),
        key.mode.name().into(),
        key.name.as_str().into(),
        key.hash.as_slice().into(),
        key.hint.as_str().into(),
        Scope::list(&key.scopes).into(),
        times::micros(now).into(),
        key.expires_at.map(times::micros).into(),
        old.map(|old| old.to_string()).into(),
        written(&key.limits),
    ]
}

/// Nothing where there are none.
fn written(limits: &Limits) -> Value {
    let some = (!limits.0.is_empty()).then_some(limits);
    some.and_then(|limits| serde_json::to_string(limits).ok()).into()
}

fn limits(row: &Row, column: usize) -> Result<Limits, StoreError> {
    let Some(text) = row.optional_text(column)? else { return Ok(Limits::default()) };
    serde_json::from_str(&text).map_err(|error| project::unreadable(&text, &error))
}

fn principal(row: &Row) -> Result<Principal, StoreError> {
    Ok(Principal {
        key: row.parsed(0)?,
        project: row.parsed(1)?,
        mode: row.parsed(2)?,
        scopes: scopes(row, 3)?,
        dedup_policy: row.optional_parsed(6)?,
        plan: row.optional_text(7)?,
        limits: project::limits(row, 8)?,
        key_limits: limits(row, 9)?,
    })
}

fn info(row: &Row) -> Result<KeyInfo, StoreError> {
    let (created_at, expires_at) = (row.integer(6)?, row.optional_integer(7)?);
    let made_for = match row.optional_integer(11)? {
        Some(made_for) => (made_for != 0).then_some(made_for),
        None => expires_at.map(|expires_at| expires_at - created_at),
    };
    Ok(KeyInfo {
        id: row.parsed(0)?,
        project: row.parsed(1)?,
        mode: row.parsed(2)?,
        name: row.text(3)?,
        hint: row.text(4)?,
        scopes: scopes(row, 5)?,
        created_at: times::timestamp(created_at)?,
        expires_at: times::optional(expires_at)?,
        made_for: made_for.map(SignedDuration::from_micros),
        revoked_at: times::optional(row.optional_integer(8)?)?,
        last_used_at: times::optional(row.optional_integer(9)?)?,
        limits: limits(row, 10)?,
    })
}

fn scopes(row: &Row, column: usize) -> Result<Vec<Scope>, StoreError> {
    let text = row.text(column)?;
    let read: Result<_, _> = text.split(',').filter(|name| !name.is_empty()).map(str::parse).collect();
    read.map_err(|_| StoreError::Corrupt { what: format!("scopes {text:?}") })
}
