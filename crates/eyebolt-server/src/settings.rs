//! Settings: defaults, then `eyebolt.toml`, then `EYEBOLT_*` variables, then flags. Every key stands with its reason in
//! `config.default.toml`; a test holds that file to the defaults here.

mod engine;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use eyebolt_types::ImageLimits;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::{
    HttpSettings,
    access::AccessSettings,
    admission::AdmissionSettings,
    batches::BatchSettings,
    clients::RunawaySettings,
    events::EventSettings,
    jobs::{DedupSettings, IdempotencySettings, JobSettings},
    outbound::OutboundSettings,
    place::StorageSettings,
    quotas::QuotaSettings,
    webhooks::WebhookSettings,
};

/// Everything that an operator can set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The edge.
    pub http: HttpSettings,
    /// What outlives the process.
    pub storage: StorageSettings,
    /// Keys and the admin API.
    pub access: AccessSettings,
    /// What is taken in.
    pub ingest: IngestSettings,
    /// How jobs run.
    pub jobs: JobSettings,
    /// How batches are taken.
    pub batches: BatchSettings,
    /// How retries are known.
    pub idempotency: IdempotencySettings,
    /// What happens to images that were seen before.
    pub dedup: DedupSettings,
    /// What projects may use.
    pub quotas: QuotaSettings,
    /// How the machine is shared.
    pub admission: AdmissionSettings,
    /// What is done about clients that run away.
    pub runaway: RunawaySettings,
    /// What is told, and for how long it can be told again.
    pub events: EventSettings,
    /// How receivers are told.
    pub webhooks: WebhookSettings,
    /// What this server calls.
    pub outbound: OutboundSettings,
    /// What an image may be.
    pub limits: ImageLimits,
    /// Threads and memory.
    pub engine: ComputeSettings,
    /// Which models, run by what.
    pub models: ModelSettings,
    /// What is written to standard error.
    pub log: LogSettings,
}

/// Section `ingest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// What happens where file name or media type contradict the content.
    pub extension_mismatch: Mismatch,
}

/// What happens to a contradiction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// Taken, with a warning.
    #[default]
    Warn,
    /// Refused.
    Reject,
}

/// Section `engine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeSettings {
    /// Threads that decode and run models; 0: one for each core.
    pub threads: usize,
    /// Sessions of each model; 0: as many as threads, at most 4.
    pub sessions: usize,
    /// Memory for decoded pixels of all requests together, bytes.
    pub memory_bytes: u64,
    /// Where images are decoded.
    pub decoder: DecoderPlace,
}

impl Default for ComputeSettings {
    fn default() -> Self {
        Self { threads: 0, sessions: 0, memory_bytes: 512 << 20, decoder: DecoderPlace::Process }
    }
}

/// More threads than any machine has use for.
const MOST_THREADS: usize = 4096;

impl ComputeSettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let counts = [("engine.threads", self.threads), ("engine.sessions", self.sessions)];
        let too_many = counts.into_iter().filter(|(_, count)| *count > MOST_THREADS);
        too_many.map(|(name, count)| format!("{name} is {count}, more than {MOST_THREADS}")).collect()
    }
}

/// Where images are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderPlace {
    /// In child processes: a decoder that aborts or never ends takes nothing with it.
    Process,
    /// In the server: saves the hand-over, trusts the decoders.
    InServer,
}

/// Section `models`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The folder that `eyebolt setup` fills; empty: `eyebolt` in the user's cache folder.
    pub dir: PathBuf,
    /// What runs the models.
    pub backend: BackendSetting,
    /// The ONNX Runtime library; empty: the one that `eyebolt setup` brought.
    pub library: PathBuf,
}

/// What runs the models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendSetting {
    /// ONNX Runtime where its library is there, else rten.
    #[default]
    Auto,
    /// ONNX Runtime or nothing.
    Onnxruntime,
    /// rten.
    Rten,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// What is written, such as `info` or `eyebolt_server=debug,info`.
    pub filter: String,
    /// How it is written.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why settings can't be used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    // No `source`: whoever tells the chain of causes would tell it twice.
    #[error("{path} can't be read: {cause}")]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {reason}")]
    Wrong { path: PathBuf, reason: String },
    #[error("the variable {name} is not known; eyebolt check-config lists them")]
    UnknownVariable { name: String },
    #[error("{place}: {reason}")]
    Value { place: String, reason: String },
    #[error("{}", .0.join("; "))]
    Unsound(Vec<String>),
}

/// Short names of variables that everybody needs.
const SHORT: [(&str, &str); 7] = [
    ("EYEBOLT_LISTEN", "http.listen"),
    ("EYEBOLT_BACKEND", "models.backend"),
    ("EYEBOLT_DATA_DIR", "storage.data_dir"),
    ("EYEBOLT_DATABASE_URL", "storage.database_url"),
    ("EYEBOLT_COUNTERS_URL", "quotas.counters_url"),
    ("EYEBOLT_ADMIN_TOKEN", "access.admin_token"),
    ("EYEBOLT_KEY_SECRET", "access.key_secret"),
];

/// Variables of other purposes: which server `eyebolt analyze` and `batch` ask, and the key that they show.
const NO_SETTINGS: [&str; 2] = ["EYEBOLT_KEY", "EYEBOLT_SERVER"];

impl Settings {
    /// Reads the file (where one is named or `eyebolt.toml` is there), then the variables.
    ///
    /// # Errors
    /// Where a file can't be read, a key or variable is unknown, or a value can't work.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let standard = Path::new("eyebolt.toml");
        let path = file.or_else(|| standard.is_file().then_some(standard));
        let mut table = match path {
            None => Table::new(),
            Some(path) => read(path)?,
        };
        let (known, defaults) = (Self::variables(), Self::defaults());
        let torture = |name: &str| cfg!(feature = "torture") && name.starts_with("EYEBOLT_TORTURE_");
        let ours =
            |name: &str| name.starts_with("EYEBOLT_") && !NO_SETTINGS.contains(&name) && !torture(name);
        for (name, text) in variables.filter(|(name, _)| ours(name)) {
            let key =
                known.get(&name).ok_or_else(|| SettingsError::UnknownVariable { name: name.clone() })?;
            set(&mut table, key, value(&text, is_text(&defaults, key)));
        }
        let settings: Self = table.try_into().map_err(|error: toml::de::Error| SettingsError::Value {
            place: "settings".to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let unsound = settings.check();
        if unsound.is_empty() { Ok(settings) } else { Err(SettingsError::Unsound(unsound)) }
    }

    fn defaults() -> Table {
        Table::try_from(Self::default()).expect("settings are a table of plain values")
    }

    /// Every variable and the key that it sets.
    pub fn variables() -> BTreeMap<String, String> {
        let defaults = Self::defaults();
        // A table in a section, such as the plans, has no variable.
        let keys = defaults.iter().flat_map(|(section, keys)| {
            let keys = keys.as_table().into_iter().flatten().filter(|(_, value)| !value.is_table());
            keys.map(move |(key, _)| format!("{section}.{key}"))
        });
        let long = keys.map(|key| (format!("EYEBOLT_{}", key.replace('.', "_").to_uppercase()), key));
        let short = SHORT.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned()));
        long.chain(short).collect()
    }

    /// What can't work, in a sentence each.
    fn check(&self) -> Vec<String> {
        let mut found = self.http.check(self.limits.max_file_bytes);
        found.extend(self.storage.check());
        found.extend(self.access.check());
        found.extend(self.quotas.check());
        found.extend(self.admission.check());
        found.extend(self.runaway.check());
        found.extend(self.jobs.check(self.http.request_timeout));
        found.extend(self.batches.check(self.idempotency.retention));
        found.extend(self.idempotency.check(&self.jobs));
        found.extend(self.dedup.check());
        found.extend(self.events.check());
        found.extend(self.webhooks.check());
        found.extend(self.outbound.check());
        found.extend(self.engine.check());
        let picture = self.limits.max_pixels.saturating_mul(3);
        if self.engine.memory_bytes < picture {
            found.push(format!(
                "engine.memory_bytes is {}, less than one largest image (limits.max_pixels × 3 = {picture})",
                self.engine.memory_bytes
            ));
        }
        found
    }
}

fn read(path: &Path) -> Result<Table, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| SettingsError::Unreadable { path: path.to_owned(), cause })?;
    let wrong =
        |reason: toml::de::Error| SettingsError::Wrong { path: path.to_owned(), reason: reason.to_string() };
    // Read as settings first: only this way an unknown key is told with its line.
    toml::from_str::<Settings>(&text).map_err(wrong)?;
    text.parse().map_err(wrong)
}

/// Whether the key takes a text, also one that looks like a number.
fn is_text(defaults: &Table, key: &str) -> bool {
    let value = key.split_once('.').and_then(|(section, key)| defaults.get(section)?.get(key));
    value.is_some_and(Value::is_str)
}

/// A variable's text as the value that TOML would read; what is none is a string.
fn value(text: &str, is_text: bool) -> Value {
    if is_text {
        return Value::String(text.to_owned());
    }
    let typed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    match typed {
        Some(typed @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Array(_))) => typed,
        _ => Value::String(text.to_owned()),
    }
}

fn set(table: &mut Table, key: &str, value: Value) {
    if let Some((section, key)) = key.split_once('.') {
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn the_documented_file_is_the_defaults() {
        let documented = include_str!("../../../config.default.toml");
        assert_eq!(toml::from_str::<Settings>(documented).unwrap(), Settings::default());
        for key in Settings::variables().values() {
            let (_, key) = key.split_once('.').unwrap();
            assert!(
                documented.lines().any(|line| line.starts_with(&format!("{key} = "))),
                "{key} is not documented"
            );
        }
    }

    #[test]
    fn a_variable_sets_its_key_and_an_unknown_one_is_named() {
        let set = Settings::load(
            None,
            variables(&[("EYEBOLT_LISTEN", "127.0.0.1:9"), ("EYEBOLT_ENGINE_THREADS", "3"), ("HOME", "x")]),
        );
        let set = set.unwrap();
        assert_eq!((set.http.listen.port(), set.engine.threads), (9, 3));
        let unknown = Settings::load(None, variables(&[("EYEBOLT_ENGINE_THREAD", "3")])).unwrap_err();
        assert!(unknown.to_string().contains("EYEBOLT_ENGINE_THREAD is not known"), "{unknown}");
    }

    #[test]
    fn a_file_that_is_not_there_is_told_once() {
        let error = Settings::load(Some(Path::new("nope.toml")), variables(&[])).unwrap_err();
        let told = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(told.matches("No such file").count(), 1, "{told}");
    }

    #[test]
    fn values_that_cannot_work_are_refused_together() {
        let pairs = [
            ("EYEBOLT_DATABASE_URL", "mysql://root:open-sesame@db"),
            ("EYEBOLT_ADMIN_TOKEN", "123"),
            ("EYEBOLT_ENGINE_MEMORY_BYTES", "1000"),
        ];
        let refused = Settings::load(None, variables(&pairs)).unwrap_err().to_string();
        for part in
            ["storage.database_url is neither", "access.admin_token is shorter", "memory_bytes is 1000"]
        {
            assert!(refused.contains(part), "{refused}");
        }
        assert!(!refused.contains("open-sesame"), "{refused}");
    }

    #[test]
    fn secrets_are_read_and_never_written() {
        let pairs = [
            ("EYEBOLT_ADMIN_TOKEN", "0123456789012345"),
            ("EYEBOLT_KEY_SECRET", "open-sesame-open-sesame"),
            ("EYEBOLT_DATABASE_URL", "postgres://root:open-sesame@db/eyebolt"),
            ("EYEBOLT_KEY", "eb_live_no_setting"),
            ("EYEBOLT_SERVER", "https://no.setting"),
            ("EYEBOLT_LISTEN", "0.0.0.0:80"),
        ];
        let settings = Settings::load(None, variables(&pairs)).unwrap();
        assert_eq!(settings.access.admin_token.reveal(), "0123456789012345");
        assert!(matches!(settings.storage.location(), Some(eyebolt_store::Location::Postgres(_))));
        let written = format!("{settings:?} {}", toml::to_string(&settings).unwrap());
        assert!(written.contains("(hidden)"), "{written}");
        for secret in ["sesame", "0123456789"] {
            assert!(!written.contains(secret), "{written}");
        }
    }
}
