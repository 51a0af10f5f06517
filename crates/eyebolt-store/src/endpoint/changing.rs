//! How an endpoint is changed.

use eyebolt_types::{
    Change, EventType, Mode,
    id::{EndpointId, ProjectId},
};
use jiff::Timestamp;

use super::{BY_URL, Endpoint, EndpointState, GIVE_UP, LOCKED, columns, endpoint, key, listed};
use crate::{Store, StoreError, database::Value, times};

/// What is to be changed of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// [`Endpoint::url`]. Another one begins without what the one before it said and failed at.
    pub url: Change<String>,
    /// [`Endpoint::description`].
    pub description: Change<String>,
    /// [`Endpoint::events`].
    pub events: Change<Option<Vec<EventType>>>,
    /// Whether it is told. To be switched on forgets what went wrong before.
    pub enabled: Change<bool>,
}

const CHANGE: &str = concat!(
    "UPDATE webhook_endpoints SET url = $2, description = $3, events = $4, state = $5, disabled_at = $6, \
     failing_since = $7, throttled_until = $8 WHERE id = $1 RETURNING ",
    columns!()
);

impl Store {
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
}

fn changed(endpoint: Endpoint, change: &EndpointChange, now: Timestamp) -> Endpoint {
    let moved = matches!(&change.url, Change::To(url) if *url != endpoint.url);
    let mut changed = Endpoint {
        url: change.url.clone().of(endpoint.url),
        description: change.description.clone().of(endpoint.description),
        events: change.events.clone().of(endpoint.events),
        ..endpoint
    };
    if moved {
        // That was another receiver.
        (changed.failing_since, changed.throttled_until) = (None, None);
    }
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
