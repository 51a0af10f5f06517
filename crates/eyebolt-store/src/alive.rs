use jiff::Timestamp;

use crate::{Store, StoreError, times};

const NOTE: &str = "INSERT INTO place (name, value) VALUES ('alive', $1) \
                    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

impl Store {
    /// Writes that somebody was here, and waits for the commit: whether a row can be written tells only a write.
    ///
    /// # Errors
    /// Where the database fails, or its disk is full.
    pub async fn note_alive(&self, now: Timestamp) -> Result<(), StoreError> {
        let now = times::micros(now).to_be_bytes();
        self.database
            .write(move |transaction| transaction.execute(NOTE, &[now.as_slice().into()]).map(drop))
            .await
    }
}
