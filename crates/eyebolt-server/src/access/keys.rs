use eyebolt_store::{ApiSecret, KeyHasher, KeyInfo, NewKey, Project, ProjectChange, Store, StoreError};
use eyebolt_types::{
    Change, Clock, Limits, Mode, Scope,
    id::{KeyId, ProjectId},
};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use thiserror::Error;

use crate::Place;

/// Why projects or keys stay as they are.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("there is a project of this name already")]
    ProjectExists,
    #[error("there is no such project")]
    NoProject,
    #[error("there is no such key")]
    NoKey,
    #[error("the key is revoked or its time is over, so it can't be rotated; make a new one")]
    Over,
    #[error("{field} {what}")]
    Invalid { field: &'static str, what: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new key shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    /// Real or sandbox.
    pub mode: Mode,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How long it lasts; none: until it is revoked.
    pub lasts: Option<SignedDuration>,
    /// What it may use, beside the limits of its project.
    pub limits: Limits,
}

impl KeyOrder {
    /// A key for everything, without end.
    pub fn new(mode: Mode, name: &str) -> Self {
        Self {
            mode,
            name: name.to_owned(),
            scopes: Scope::ALL.to_vec(),
            lasts: None,
            limits: Limits::default(),
        }
    }
}

/// A key that was made. Its secret is shown now or never.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What is known of it.
    pub key: KeyInfo,
    /// What clients show.
    pub secret: ApiSecret,
}

/// Makes and ends projects' keys. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    store: Store,
    hasher: KeyHasher,
    clock: Clock,
}

/// Characters in the name of a project or key.
const LONGEST_NAME: usize = 64;

impl Keys {
    /// Those of this place's database.
    pub fn new(place: &Place, clock: Clock) -> Self {
        Self { store: place.store.clone(), hasher: place.hasher.clone(), clock }
    }

    /// Makes a project and its first key.
    ///
    /// # Errors
    /// Where the name is taken or can't be one, or the store fails.
    pub async fn create_project(&self, name: &str, mode: Mode) -> Result<(Project, Issued), KeyError> {
        let name = checked_name(name)?;
        let project = self.store.create_project(&name, self.clock.now()).await?;
        let project = project.ok_or(KeyError::ProjectExists)?;
        let issued = self.create(project.id, KeyOrder::new(mode, "first")).await?;
        Ok((project, issued))
    }

    /// All projects, by name.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn projects(&self) -> Result<Vec<Project>, KeyError> {
        Ok(self.store.projects().await?)
    }

    /// The project of this id.
    ///
    /// # Errors
    /// Where there is none, or the store fails.
    pub async fn project_by_id(&self, id: ProjectId) -> Result<Project, KeyError> {
        self.store.project_by_id(id).await?.ok_or(KeyError::NoProject)
    }

    /// The project of this id or name.
    ///
    /// # Errors
    /// Where there is none, or the store fails.
    pub async fn project(&self, id_or_name: &str) -> Result<Project, KeyError> {
        let found = match id_or_name.parse() {
            Ok(id) => self.store.project_by_id(id).await?,
            Err(_) => self.store.project(id_or_name).await?,
        };
        found.ok_or(KeyError::NoProject)
    }

    /// Changes what is agreed with a project. Servers notice within a second.
    ///
    /// # Errors
    /// Where there is no such project, a limit can't be one, or the store fails.
    pub async fn change_project(&self, id: ProjectId, change: ProjectChange) -> Result<Project, KeyError> {
        if let Change::To(limits) = &change.limits
            && let Some(what) = limits.check().into_iter().next()
        {
            return Err(invalid("limits", format!("can't be so: {what}")));
        }
        self.store.change_project(id, change).await?.ok_or(KeyError::NoProject)
    }

    /// All keys of a project, oldest first.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn list(&self, project: ProjectId) -> Result<Vec<KeyInfo>, KeyError> {
        Ok(self.store.keys(project).await?)
    }

    /// Makes a key of a project that is there.
    ///
    /// # Errors
    /// Where the order can't be met, or the store fails.
    pub async fn create(&self, project: ProjectId, order: KeyOrder) -> Result<Issued, KeyError> {
        let now = self.clock.now();
        let expires_at = order.lasts.map(|lasts| ends(now, lasts, "expires_in")).transpose()?;
        check_limits(&order.limits)?;
        let order = KeyOrder { name: checked_name(&order.name)?, ..order };
        let (new, secret) = self.new_key(project, order, expires_at)?;
        let id = self.store.create_key(new, now).await?;
        self.issued(id, secret).await
    }

    /// Makes a key in another's place; the old one works for `overlap` longer, or until its own end where that is before.
    /// The new one may do the same, and lasts as long as the old one was made for. Whoever lost the answer rotates again.
    ///
    /// # Errors
    /// Where there is no such key or it is over, or the store fails.
    pub async fn rotate(&self, old: KeyId, overlap: SignedDuration) -> Result<Issued, KeyError> {
        let now = self.clock.now();
        let until = ends(now, overlap, "overlap")?;
        let key = self.store.key(old).await?.ok_or(KeyError::NoKey)?;
        if key.revoked_at.is_some() || key.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(KeyError::Over);
        }
        let lasts = key.made_for;
        let expires_at = lasts.map(|lasts| ends(now, lasts, "expires_in")).transpose()?;
        let order =
            KeyOrder { mode: key.mode, name: key.name, scopes: key.scopes, lasts, limits: key.limits };
        let (new, secret) = self.new_key(key.project, order, expires_at)?;
        let id = self.store.rotate_key((old, until), new, now).await?.ok_or(KeyError::Over)?;
        self.issued(id, secret).await
    }

    /// Gives a key these limits, in place of those that it had; its project's hold beside them. Servers notice within a second.
    ///
    /// # Errors
    /// Where there is no such key, a limit can't be one, or the store fails.
    pub async fn limit(&self, key: KeyId, limits: Limits) -> Result<KeyInfo, KeyError> {
        check_limits(&limits)?;
        self.store.limit_key(key, limits).await?;
        self.key(key).await
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// Where there is no such key, or the store fails.
    pub async fn key(&self, key: KeyId) -> Result<KeyInfo, KeyError> {
        self.store.key(key).await?.ok_or(KeyError::NoKey)
    }

    /// Ends a key; one that is over already stays so.
    ///
    /// # Errors
    /// Where there is no such key, or the store fails.
    pub async fn revoke(&self, key: KeyId) -> Result<KeyInfo, KeyError> {
        self.store.revoke_key(key, self.clock.now()).await?;
        self.store.key(key).await?.ok_or(KeyError::NoKey)
    }

    fn new_key(
        &self,
        project: ProjectId,
        order: KeyOrder,
        expires_at: Option<Timestamp>,
    ) -> Result<(NewKey, ApiSecret), KeyError> {
        if order.scopes.is_empty() {
            return Err(invalid("scopes", "names no scope; a key needs at least one"));
        }
        let mut scopes = order.scopes;
        scopes.sort_unstable();
        scopes.dedup();
        let secret = ApiSecret::generate(order.mode);
        let (hash, hint) = (self.hasher.hash(&secret), secret.hint().to_owned());
        let KeyOrder { mode, name, limits, .. } = order;
        Ok((NewKey { project, mode, name, scopes, hash, hint, expires_at, limits }, secret))
    }

    async fn issued(&self, id: KeyId, secret: ApiSecret) -> Result<Issued, KeyError> {
        let key = self.store.key(id).await?.ok_or(KeyError::NoKey)?;
        Ok(Issued { key, secret })
    }
}

fn check_limits(limits: &Limits) -> Result<(), KeyError> {
    let wrong = limits.check().into_iter().next();
    wrong.map_or(Ok(()), |what| Err(invalid("limits", format!("can't be so: {what}"))))
}

fn invalid(field: &'static str, what: impl Into<String>) -> KeyError {
    KeyError::Invalid { field, what: what.into() }
}

/// A time such as `90d` or `24h`, where a day has 24 hours. `field` names where it stands.
///
/// # Errors
/// [`KeyError::Invalid`].
pub fn period(field: &'static str, text: &str) -> Result<SignedDuration, KeyError> {
    let read = text.parse::<Span>().and_then(|span| {
        let relative = SpanRelativeTo::days_are_24_hours();
        span.to_duration(relative)
    });
    read.map_err(|_| invalid(field, "is no time such as 90d or 24h"))
}

/// A name that can stand in a line of a table.
fn checked_name(name: &str) -> Result<String, KeyError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(invalid(
            "name",
            format!("must have 1 to {LONGEST_NAME} characters, none of them a control character"),
        ));
    }
    if name.parse::<ProjectId>().is_ok() {
        return Err(invalid("name", "must not look like an id"));
    }
    Ok(name.to_owned())
}

/// The latest end of a key: ten years.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 3653);

/// When something ends that begins now.
fn ends(now: Timestamp, lasts: SignedDuration, field: &'static str) -> Result<Timestamp, KeyError> {
    if lasts.is_negative() || lasts > LONGEST {
        return Err(invalid(field, "must be from 0 to ten years"));
    }
    Ok(now + lasts)
}
