//! How an endpoint is made.

use eyebolt_types::{
    EventType, Mode,
    id::{EndpointId, ProjectId},
};
use jiff::Timestamp;

use super::{BY_URL, Endpoint, EndpointKind, PROJECT, columns, endpoint, hosts::NAMED, listed, secrets::ADD};
use crate::{
    Store, StoreError,
    database::{Transaction, Value},
    times,
};

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

const INSERT: &str = concat!(
    "INSERT INTO webhook_endpoints (id, project_id, mode, kind, url, description, events, signature, state, \
     created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'enabled', $9) ON CONFLICT DO NOTHING RETURNING ",
    columns!()
);
const COUNT: &str =
    "SELECT COUNT(*) FROM webhook_endpoints WHERE project_id = $1 AND mode = $2 AND kind = $3";

impl Store {
    /// Makes an endpoint with its first secret, unless the project has one of this address or `most` of its kind. One that
    /// stands for requests has the project's secret, and is named by this.
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
                    let there = endpoint(&there)?.id;
                    name(transaction, (new.kind, there), now)?;
                    return Ok(Creation::Exists(there));
                }
                let count = transaction.query_one(COUNT, &of())?.map_or(Ok(0), |row| row.integer(0))?;
                if count.unsigned_abs() >= most {
                    return Ok(Creation::TooMany(count.unsigned_abs()));
                }
                let Some(made) = transaction.query_one(INSERT, &row(&new, now))? else {
                    return Err(StoreError::Conflict);
                };
                name(transaction, (new.kind, new.id), now)?;
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
}

/// Notes that a request names what stands for requests.
fn name(
    transaction: &mut dyn Transaction,
    (kind, id): (EndpointKind, EndpointId),
    now: Timestamp,
) -> Result<(), StoreError> {
    if kind == EndpointKind::Requests {
        transaction.execute(NAMED, &[times::micros(now).into(), id.to_string().into()])?;
    }
    Ok(())
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
