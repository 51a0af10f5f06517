use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Section `access`: keys and the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// What the operator shows to the admin API; empty: the admin API is off.
    pub admin_token: Hidden,
    /// What API keys are hashed with; empty: a file in the data folder.
    pub key_secret: Hidden,
    /// Failed authentications that one client address may make in a minute; 0: no limit.
    pub failures_per_minute: u32,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { admin_token: Hidden::default(), key_secret: Hidden::default(), failures_per_minute: 20 }
    }
}

/// Shorter secrets could be guessed, bytes.
const LEAST: usize = 16;

impl AccessSettings {
    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let secrets = [("access.admin_token", &self.admin_token), ("access.key_secret", &self.key_secret)];
        let short = secrets.into_iter().filter(|(_, secret)| (1..LEAST).contains(&secret.reveal().len()));
        short.map(|(key, _)| format!("{key} is shorter than {LEAST} bytes: it could be guessed")).collect()
    }
}

/// A text that is written neither into logs nor by `eyebolt check-config`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "(hidden)" })
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
