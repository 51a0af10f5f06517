use std::process::ExitCode;

use clap::Subcommand;
use eyebolt_types::{
    Clock, Limits, Mode, Policy, Scope,
    id::{KeyId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    limit::{LimitChoice, changed_of_key, limit_of_key},
    output,
};
use crate::{
    Place, Settings,
    access::{Issued, KeyList, KeyOrder, KeyView, Keys, period},
    settings::LogSettings,
};

/// Of `eyebolt key`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key; its secret is printed now and never again.
    Create {
        /// Id or name of the project.
        project: String,
        /// What people call it.
        #[arg(long, default_value = "key")]
        name: String,
        /// live or test.
        #[arg(long, value_parser = mode, default_value = "live")]
        mode: Mode,
        /// What it may do: analyze, read, erase, webhooks, admin; default: all.
        #[arg(long, value_parser = scope, value_delimiter = ',', value_name = "NAMES")]
        scopes: Vec<Scope>,
        /// How long it lasts, such as 90d; default: until it is revoked.
        #[arg(long, value_parser = time, value_name = "TIME")]
        expires: Option<SignedDuration>,
        /// A limit of its own beside its project's; may be repeated.
        #[arg(long = "limit", value_name = "POLICY=LIMIT", value_parser = limit_of_key)]
        limits: Vec<LimitChoice>,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a key; servers notice within a second.
    Set {
        /// Its id: key_…
        #[arg(value_parser = key)]
        key: KeyId,
        /// A limit of its own beside its project's: a number, or none; may be repeated.
        #[arg(long = "limit", value_name = "POLICY=LIMIT", value_parser = limit_of_key, required = true)]
        limits: Vec<LimitChoice>,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the keys of a project.
    List {
        /// Id or name of the project.
        project: String,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key in another's place; the old one works on for the overlap.
    Rotate {
        /// Id of the old key: key_…
        #[arg(value_parser = key)]
        key: KeyId,
        /// How long the old key works on.
        #[arg(long, value_parser = time, default_value = "24h", value_name = "TIME")]
        overlap: SignedDuration,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a key; servers notice within a second.
    Revoke {
        /// Its id: key_…
        #[arg(value_parser = key)]
        key: KeyId,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: Command, settings: Settings) -> anyhow::Result<ExitCode> {
    let keys = keys(&settings).await?;
    match command {
        Command::Create { project, name, mode, scopes, expires, limits, json } => {
            let limits = changed_of_key(Limits::default(), limits);
            let mut order = KeyOrder { lasts: expires, limits, ..KeyOrder::new(mode, &name) };
            if !scopes.is_empty() {
                order.scopes = scopes;
            }
            let project = keys.project(&project).await?;
            Printed::new(&keys.create(project.id, order).await?).print(json)?;
        }
        Command::Set { key, limits, json } => {
            let limits = changed_of_key(keys.key(key).await?.limits, limits);
            let key = KeyView::from(keys.limit(key, limits).await?);
            output::line(if json { serde_json::to_string(&key)? } else { line(&key) })?;
        }
        Command::List { project, json } => {
            let project = keys.project(&project).await?;
            let data: Vec<_> = keys.list(project.id).await?.into_iter().map(KeyView::from).collect();
            if json {
                output::line(serde_json::to_string(&KeyList { object: "list".to_owned(), data })?)?;
            } else {
                for key in &data {
                    output::line(line(key))?;
                }
            }
        }
        Command::Rotate { key, overlap, json } => {
            Printed::new(&keys.rotate(key, overlap).await?).print(json)?;
        }
        Command::Revoke { key, json } => {
            let key = KeyView::from(keys.revoke(key).await?);
            output::line(if json { serde_json::to_string(&key)? } else { line(&key) })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys of the configured data folder, whether a server runs on it or not. It must be there: in another working folder the
/// same settings may name another one.
pub(super) async fn keys(settings: &Settings) -> anyhow::Result<Keys> {
    super::log_to_stderr(&LogSettings { filter: "warn".to_owned(), ..settings.log.clone() })?;
    let clock = Clock::system();
    let place = Place::open_existing(&settings.storage, &settings.access, &clock).await?;
    Ok(Keys::new(&place, clock))
}

/// The same where the folder may be made.
pub(super) async fn keys_of_new(settings: &Settings) -> anyhow::Result<Keys> {
    super::log_to_stderr(&LogSettings { filter: "warn".to_owned(), ..settings.log.clone() })?;
    let clock = Clock::system();
    let place = Place::open_beside(&settings.storage, &settings.access, &clock).await?;
    super::tell_new(&place);
    Ok(Keys::new(&place, clock))
}

/// A new key, for programs. No `Debug`: it holds the secret.
#[derive(Serialize)]
pub(super) struct Printed<'a> {
    project: ProjectId,
    /// The secret.
    key: &'a str,
    key_id: KeyId,
    name: &'a str,
    mode: Mode,
    scopes: &'a [Scope],
    expires_at: Option<Timestamp>,
}

impl<'a> Printed<'a> {
    pub(super) fn new(issued: &'a Issued) -> Self {
        let key = &issued.key;
        Self {
            project: key.project,
            key: issued.secret.reveal(),
            key_id: key.id,
            name: &key.name,
            mode: key.mode,
            scopes: &key.scopes,
            expires_at: key.expires_at,
        }
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            output::line(serde_json::to_string(self)?)?;
        } else {
            output::line(format_args!("Key {} ({}), {}", self.key_id, self.name, Scope::list(self.scopes)))?;
            output::line(format_args!(
                "  {}\nThis is shown once: keep it where your program finds it.",
                self.key
            ))?;
        }
        Ok(())
    }
}

fn line(key: &KeyView) -> String {
    let ended = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "no end".to_owned(),
    };
    let used = key.last_used_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let (id, mode, hint, name) = (key.id, key.mode.name(), &key.hint, &key.name);
    let limit = |(policy, limit): (&Policy, &u64)| format!("  {}={limit}", policy.name());
    let limits: String = key.limits.0.iter().map(limit).collect();
    format!("{id}  {mode}  …{hint}  {}  {ended}  used {used}{limits}  {name}", Scope::list(&key.scopes))
}

pub(super) fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|_| "it is live or test".to_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|_| format!("scopes are {}", Scope::list(&Scope::ALL)))
}

fn key(text: &str) -> Result<KeyId, String> {
    text.parse().map_err(|_| "an id of a key begins with key_; eyebolt key list shows it".to_owned())
}

fn time(text: &str) -> Result<SignedDuration, String> {
    period("it", text).map_err(|error| error.to_string())
}
