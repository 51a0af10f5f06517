use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::UnknownName;

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Start work.
    Analyze,
    /// Read jobs, results, usage and limits.
    Read,
    /// Erase images and results.
    Erase,
    /// Manage the project's own keys and settings.
    Admin,
    /// Manage webhook endpoints, read what was delivered, and send it again.
    Webhooks,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Analyze, Self::Read, Self::Erase, Self::Admin, Self::Webhooks];

    /// The name in answers and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Analyze => "analyze",
            Self::Read => "read",
            Self::Erase => "erase",
            Self::Admin => "admin",
            Self::Webhooks => "webhooks",
        }
    }

    /// Their names with commas between.
    pub fn list(scopes: &[Self]) -> String {
        scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|scope| scope.name() == name).ok_or(UnknownName)
    }
}
