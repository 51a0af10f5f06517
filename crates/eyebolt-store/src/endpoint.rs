//! Webhook endpoints.

mod changing;
mod hosts;
mod making;
mod secrets;

use eyebolt_types::{
    EventType, Mode,
    id::{EndpointId, ProjectId},
};
use jiff::Timestamp;

pub use self::{
    changing::EndpointChange,
    making::{Creation, NewEndpoint},
    secrets::{SealedSecret, SecretOwner},
};
use crate::{
    Store, StoreError,
    database::{Row, Value},
    times,
};

/// Who wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub id: EndpointId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// Made by the project, or for addresses that requests name.
    pub kind: EndpointKind,
    /// Where messages go.
    pub url: String,
    /// In the project's words.
    pub description: String,
    /// Of what; `None`: of everything.
    pub events: Option<Vec<EventType>>,
    /// How messages are signed: `v1` or `v1a`.
    pub signature: String,
    /// Whether messages go there.
    pub state: EndpointState,
    /// Since when they don't.
    pub disabled_at: Option<Timestamp>,
    /// Since when none was taken.
    pub failing_since: Option<Timestamp>,
    /// Until when the receiver wants to be left alone.
    pub throttled_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// The name in rows.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = eyebolt_types::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name { $($word => Ok(Self::$variant),)* _ => Err(eyebolt_types::UnknownName) }
            }
        }
    )*};
}
pub(crate) use words;

words! {
    /// Who made an endpoint.
    EndpointKind {
        /// The project.
        Own = "own",
        /// Nobody: it stands for the addresses on one host that requests name.
        Requests = "requests",
    }
    /// Whether an endpoint is told.
    EndpointState {
        /// It is.
        Enabled = "enabled",
        /// The project switched it off.
        Disabled = "disabled",
        /// The receiver said that it is gone (410).
        Gone = "gone",
        /// It took nothing for too long.
        Failing = "failing",
    }
}

/// The columns that [`endpoint`] reads, in its order.
macro_rules! columns {
    () => {
        "id, project_id, mode, kind, url, description, events, signature, state, disabled_at, failing_since, \
         throttled_until, created_at"
    };
}
pub(crate) use columns;

/// How many they are.
pub(crate) const COLUMNS: usize = 13;

const BY_URL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_endpoints WHERE project_id = $1 AND mode = $2 AND kind = $3 AND url = $4"
);
const PROJECT: &str = "SELECT id FROM projects WHERE id = $1 FOR UPDATE";
const BY_ID: &str =
    concat!("SELECT ", columns!(), " FROM webhook_endpoints WHERE id = $1 AND project_id = $2 AND mode = $3");
const LOCKED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_endpoints WHERE id = $1 AND project_id = $2 AND mode = $3 FOR UPDATE"
);
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_endpoints WHERE project_id = $1 AND mode = $2 AND kind = 'own' ORDER BY id LIMIT 1000"
);
pub(crate) const GIVE_UP: &str = "UPDATE webhook_deliveries SET state = 'failed', next_at = NULL, \
                                  finished_at = $2 WHERE endpoint_id = $1 AND next_at IS NOT NULL";
const DELETE: [&str; 4] = [
    "DELETE FROM webhook_attempts WHERE endpoint_id = $1",
    "DELETE FROM webhook_deliveries WHERE endpoint_id = $1",
    "DELETE FROM webhook_secrets WHERE owner = $1",
    "DELETE FROM webhook_endpoints WHERE id = $1",
];
const DELETE_TESTS: &str = "DELETE FROM events WHERE subject = $1";

impl Store {
    /// Endpoints that a project made in a mode, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn endpoints(&self, (project, mode): (ProjectId, Mode)) -> Result<Vec<Endpoint>, StoreError> {
        let whose = [project.to_string().into(), mode.name().into()];
        let rows = self.database.read(move |transaction| transaction.query(LIST, &whose)).await?;
        rows.iter().map(endpoint).collect()
    }

    /// An endpoint of this project and mode.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn endpoint(
        &self,
        (project, mode): (ProjectId, Mode),
        id: EndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        let key = key((project, mode, id));
        let row = self.database.read(move |transaction| transaction.query_one(BY_ID, &key)).await?;
        row.as_ref().map(endpoint).transpose()
    }

    /// Removes an endpoint with its secrets, deliveries and their log. Whether it was there.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_endpoint(
        &self,
        (project, mode, id): (ProjectId, Mode, EndpointId),
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |transaction| {
                // Whoever sends to it holds the row, or finds it gone.
                if transaction.query_one(LOCKED, &key((project, mode, id)))?.is_none() {
                    return Ok(false);
                }
                let owner = || -> Vec<Value> { vec![id.to_string().into()] };
                let mut all: Vec<_> = DELETE.iter().map(|statement| (*statement, owner())).collect();
                all.push((DELETE_TESTS, owner()));
                transaction.query_all(&all)?;
                Ok(true)
            })
            .await
    }
}

fn key((project, mode, id): (ProjectId, Mode, EndpointId)) -> [Value; 3] {
    [id.to_string().into(), project.to_string().into(), mode.name().into()]
}

/// A space around each, so that one is found by it with its spaces; `*` for all.
fn listed(events: Option<&[EventType]>) -> String {
    let Some(events) = events else { return "*".to_owned() };
    events.iter().fold(" ".to_owned(), |list, event| format!("{list} {event} "))
}

pub(crate) fn endpoint(row: &Row) -> Result<Endpoint, StoreError> {
    let events = row.text(6)?;
    let read = events.split_whitespace().map(str::parse).collect::<Result<_, _>>();
    let events = if events == "*" {
        None
    } else {
        Some(read.map_err(|_| StoreError::Corrupt { what: format!("event types {events:?}") })?)
    };
    Ok(Endpoint {
        id: row.parsed(0)?,
        project: row.parsed(1)?,
        mode: row.parsed(2)?,
        kind: row.parsed(3)?,
        url: row.text(4)?,
        description: row.text(5)?,
        events,
        signature: row.text(7)?,
        state: row.parsed(8)?,
        disabled_at: times::optional(row.optional_integer(9)?)?,
        failing_since: times::optional(row.optional_integer(10)?)?,
        throttled_until: times::optional(row.optional_integer(11)?)?,
        created_at: times::timestamp(row.integer(12)?)?,
    })
}
