use crate::{KeyHasher, Store, StoreError};

const NAME: &str = "key_secret_check";
const FIRST: &str = "INSERT INTO place (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const READ: &str = "SELECT value FROM place WHERE name = $1";

impl Store {
    /// Whether this hasher is the one that the keys of this database were hashed by. The first hasher that asks becomes
    /// it: with any other every key would be unknown.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn knows_hasher(&self, hasher: &KeyHasher) -> Result<bool, StoreError> {
        let check = hasher.check();
        self.database
            .write(move |transaction| {
                transaction.execute(FIRST, &[NAME.into(), check.as_slice().into()])?;
                let kept = transaction.query_one(READ, &[NAME.into()])?;
                Ok(kept.map(|row| row.blob(0)).transpose()?.as_ref() == Some(&check))
            })
            .await
    }
}
