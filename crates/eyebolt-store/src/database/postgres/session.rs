//! A connection to a server: how it is made, and what is sent on it.

use std::{collections::HashMap, time::Duration};

use tokio_postgres::{Client, Config, NoTls, Statement, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    super::{
        Row, Statement as Wanted, Value, encryption,
        merged::{Insert, column},
    },
    wire::{borrowed, unavailable},
};
use crate::StoreError;

/// Where the URL has none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How an address is connected to.
pub(super) fn configured(url: &str) -> Result<(Config, Option<MakeRustlsConnect>), StoreError> {
    let (mut config, tls) = encryption::parse(url)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    config.application_name("eyebolt");
    Ok((config, tls))
}

/// A connection, and the statements that it knows.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) prepared: HashMap<&'static str, Statement>,
    /// Of each statement that was asked for together with others: the same for many rows, where there is such a thing.
    pub(super) inserts: HashMap<&'static str, Option<Many>>,
}

/// A statement that inserts any number of rows.
pub(super) struct Many {
    pub(super) insert: Insert,
    pub(super) statement: Statement,
}

impl Session {
    pub(super) async fn connect(config: &Config, tls: Option<MakeRustlsConnect>) -> Result<Self, StoreError> {
        // How a connection ends, the client's next statement tells.
        let client = if let Some(tls) = tls {
            let (client, connection) = config.connect(tls).await.map_err(unavailable)?;
            tokio::spawn(async move { drop(connection.await) });
            client
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(unavailable)?;
            tokio::spawn(async move { drop(connection.await) });
            client
        };
        Ok(Self { client, prepared: HashMap::new(), inserts: HashMap::new() })
    }

    pub(super) fn many(&self, sql: &'static str) -> Option<&Many> {
        self.inserts.get(sql)?.as_ref()
    }

    /// What is sent for statements that go together. They were learnt before.
    pub(super) fn asked<'a>(
        &'a self,
        statements: &'a [Wanted],
        places: &[usize],
    ) -> Result<Asked<'a>, StoreError> {
        let together: Vec<_> = places.iter().map(|place| &statements[*place]).collect();
        let sql = together[0].0;
        let alone = self.prepared.get(sql).ok_or(StoreError::Conflict)?;
        let many = self.many(sql).filter(|_| together.len() > 1);
        let statement = many.map_or(alone, |many| &many.statement);
        let columns =
            many.map(|many| (0..many.insert.parameters()).map(|place| column(&together, place)).collect());
        Ok(Asked { statement, together, columns, insert: many.map(|many| &many.insert) })
    }
}

/// A statement that is sent, for one or more of those that were asked for.
pub(super) struct Asked<'a> {
    pub(super) statement: &'a Statement,
    together: Vec<&'a Wanted>,
    /// The parameters of all rows, column by column.
    columns: Option<Vec<Vec<&'a Value>>>,
    insert: Option<&'a Insert>,
}

impl Asked<'_> {
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        match &self.columns {
            None => borrowed(&self.together[0].1),
            Some(columns) => columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect(),
        }
    }

    /// The rows of each.
    pub(super) fn share_out(&self, rows: Vec<Row>) -> Result<Vec<Vec<Row>>, StoreError> {
        match self.insert {
            None => Ok(vec![rows]),
            Some(insert) => insert.share_out(rows, &self.together),
        }
    }
}
