//! Webhook endpoints.

mod secrets;

use eyebolt_types::{
    Change, EventType, Mode,
    id::{EndpointId, ProjectId},
};
use jiff::Timestamp;

use self::secrets::ADD;
pub use self::secrets::{SealedSecret, SecretOwner};
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

/// An endpoint to be made.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Its name.
    pub id: EndpointId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// Who made it.
    pub kind: EndpointKind,
    /// Where messages go.
    pub url: String,
    /// In the project's words.
    pub description: String,
    /// Of what; `None`: of everything.
    pub events: Option<Vec<EventType>>,
    /// How messages are signed.
    pub signature: String,
}

/// What became of the wish to make an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is there.
    Created(Box<Endpoint>),
    /// There is one of this address already.
    Exists(EndpointId),
    /// The project has this many: no more are made.
    TooMany(u64),
}

/// What is to be changed of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// [`Endpoint::url`].
    pub url: Change<String>,
    /// [`Endpoint::description`].
    pub description: Change<String>,
    /// [`Endpoint::events`].
    pub events: Change<Option<Vec<EventType>>>,
    /// Whether it is told. To be switched on forgets what went wrong before.
    pub enabled: Change<bool>,
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

const INSERT: &str = concat!(
    "INSERT INTO webhook_endpoints (id, project_id, mode, kind, url, description, events, signature, state, \
     created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'enabled', $9) ON CONFLICT DO NOTHING RETURNING ",
    columns!()
);
const BY_URL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM webhook_endpoints WHERE project_id = $1 AND mode = $2 AND kind = $3 AND url = $4"
);
const COUNT: &str =
    "SELECT COUNT(*) FROM webhook_endpoints WHERE project_id = $1 AND mode = $2 AND kind = $3";
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
    " FROM webhook_endpoints WHERE project_id = $1 AND mode = $2 ORDER BY id LIMIT 1000"
);
const CHANGE: &str = concat!(
    "UPDATE webhook_endpoints SET url = $2, description = $3, events = $4, state = $5, disabled_at = $6, \
     failing_since = $7, throttled_until = $8 WHERE id = $1 RETURNING ",
    columns!()
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
    /// Makes an endpoint with its first secret, unless the project has one of this address or `most` of its kind. One that
    /// stands for requests has the project's secret.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_endpoint(
        &self,
        new: NewEndpoint,
        (sealed, most): (Option<Vec<u8>>, u64),
        now: Timestamp,
    ) -> Result<Creation, StoreError> {
        self.database
            .write(move |transaction| {
                let of = || -> [Value; 3] {
                    [new.project.to_string().into(), new.mode.name().into(), new.kind.name().into()]
                };
                // Of two at once that cross the limit, one sees the other.
                transaction.query_one(PROJECT, &[new.project.to_string().into()])?;
                let url = [of().as_slice(), &[new.url.as_str().into()]].concat();
                if let Some(there) = transaction.query_one(BY_URL, &url)? {
                    return Ok(Creation::Exists(endpoint(&there)?.id));
                }
                let count = transaction.query_one(COUNT, &of())?.map_or(Ok(0), |row| row.integer(0))?;
                if count.unsigned_abs() >= most {
                    return Ok(Creation::TooMany(count.unsigned_abs()));
                }
                let Some(made) = transaction.query_one(INSERT, &row(&new, now))? else {
                    return Err(StoreError::Conflict);
                };
                if let Some(sealed) = &sealed {
                    let secret = [
                        new.id.to_string().into(),
                        1.into(),
                        sealed.as_slice().into(),
                        times::micros(now).into(),
                    ];
                    transaction.execute(ADD, &secret)?;
                }
                Ok(Creation::Created(Box::new(endpoint(&made)?)))
            })
            .await
    }

    /// Endpoints of a project and mode, oldest first.
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

    /// Changes an endpoint: as it is then, or `None` where there is none. One that is switched off gives up what was on its
    /// way.
    ///
    /// # Errors
    /// Where the database fails; [`StoreError::Conflict`] never: an address that another endpoint has is told as `Err`.
    pub async fn change_endpoint(
        &self,
        (project, mode, id): (ProjectId, Mode, EndpointId),
        change: EndpointChange,
        now: Timestamp,
    ) -> Result<Result<Option<Endpoint>, EndpointId>, StoreError> {
        self.database
            .write(move |transaction| {
                let Some(row) = transaction.query_one(LOCKED, &key((project, mode, id)))? else {
                    return Ok(Ok(None));
                };
                let changed = changed(endpoint(&row)?, &change, now);
                if let Change::To(url) = &change.url {
                    let url = [
                        project.to_string().into(),
                        mode.name().into(),
                        changed.kind.name().into(),
                        url.as_str().into(),
                    ];
                    let other = transaction.query_one(BY_URL, &url)?.as_ref().map(endpoint).transpose()?;
                    if let Some(other) = other.filter(|other| other.id != id) {
                        return Ok(Err(other.id));
                    }
                }
                let row = transaction.query_one(CHANGE, &change_row(&changed))?;
                if changed.state != EndpointState::Enabled {
                    transaction.execute(GIVE_UP, &[id.to_string().into(), times::micros(now).into()])?;
                }
                Ok(Ok(row.as_ref().map(endpoint).transpose()?))
            })
            .await
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

fn changed(endpoint: Endpoint, change: &EndpointChange, now: Timestamp) -> Endpoint {
    let mut changed = Endpoint {
        url: change.url.clone().of(endpoint.url),
        description: change.description.clone().of(endpoint.description),
        events: change.events.clone().of(endpoint.events),
        ..endpoint
    };
    match change.enabled {
        Change::To(true) => {
            changed.state = EndpointState::Enabled;
            (changed.disabled_at, changed.failing_since, changed.throttled_until) = (None, None, None);
        }
        Change::To(false) if changed.state == EndpointState::Enabled => {
            changed.state = EndpointState::Disabled;
            changed.disabled_at = Some(now);
        }
        Change::Keep | Change::To(false) => {}
    }
    changed
}

fn row(new: &NewEndpoint, now: Timestamp) -> [Value; 9] {
    [
        new.id.to_string().into(),
        new.project.to_string().into(),
        new.mode.name().into(),
        new.kind.name().into(),
        new.url.as_str().into(),
        new.description.as_str().into(),
        listed(new.events.as_deref()).into(),
        new.signature.as_str().into(),
        times::micros(now).into(),
    ]
}

fn change_row(changed: &Endpoint) -> [Value; 8] {
    [
        changed.id.to_string().into(),
        changed.url.as_str().into(),
        changed.description.as_str().into(),
        listed(changed.events.as_deref()).into(),
        changed.state.name().into(),
        changed.disabled_at.map(times::micros).into(),
        changed.failing_since.map(times::micros).into(),
        changed.throttled_until.map(times::micros).into(),
    ]
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
