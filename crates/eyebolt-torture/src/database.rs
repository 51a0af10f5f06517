//! A PostgreSQL schema for one run.

use anyhow::Context;
use postgres::{Client, NoTls};

/// The schema's URL for servers.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// Makes an empty schema. Blocks meanwhile.
    pub(crate) fn create(server: &str, name: String) -> anyhow::Result<Self> {
        let schema = Self { server: server.to_owned(), name };
        schema.execute(&format!("CREATE SCHEMA {}", schema.name))?;
        Ok(schema)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where servers find it.
    pub(crate) fn url(&self) -> String {
        let separator = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{separator}options=-csearch_path%3D{}", self.server, self.name)
    }

    /// Removes it with all rows. Blocks meanwhile.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        self.execute(&format!("DROP SCHEMA {} CASCADE", self.name))
    }

    fn execute(&self, statement: &str) -> anyhow::Result<()> {
        let mut client =
            Client::connect(&self.server, NoTls).context("the PostgreSQL server does not answer")?;
        client.batch_execute(statement).with_context(|| statement.to_owned())
    }
}
