//! Settings of the server. Every field has a default; an unknown name is refused.

use std::{net::SocketAddr, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};

/// What multipart framing or JSON may add to the image itself, bytes.
pub const BODY_OVERHEAD_BYTES: u64 = 1 << 20;

/// Section `http`: the edge. Durations are written as `10s`, `1m 30s`, `250ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Where to listen. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Connections at once. Further ones wait in the kernel's queue, so nobody is refused in a burst.
    pub max_connections: usize,
    /// From the first moment of a connection, or the end of the last answer, to the end of the next request's
    /// headers. It also ends idle connections.
    #[serde(with = "friendly")]
    pub header_timeout: Duration,
    /// All request headers together, bytes.
    pub max_header_bytes: usize,
    /// Between two pieces of a body.
    #[serde(with = "friendly")]
    pub body_idle_timeout: Duration,
    /// For the whole body. Below 30 s, so that a stalled upload is gone when its client tries again.
    #[serde(with = "friendly")]
    pub body_timeout: Duration,
    /// From the end of the headers to the answer.
    #[serde(with = "friendly")]
    pub request_timeout: Duration,
    /// How long a client may take for the next bytes of an answer.
    #[serde(with = "friendly")]
    pub write_timeout: Duration,
    /// Memory for all bodies together, bytes. Taken in small steps as bytes arrive: a client that announces much and
    /// sends little holds little.
    pub body_budget_bytes: u64,
    /// How long a body waits for its next step of memory before it is refused.
    #[serde(with = "friendly")]
    pub body_budget_timeout: Duration,
    /// How long a closed connection goes on reading what the client still sends, so that the client sees the answer
    /// instead of a reset.
    #[serde(with = "friendly")]
    pub linger_timeout: Duration,
    /// How long a stopping server waits for the requests that run.
    #[serde(with = "friendly")]
    pub drain_timeout: Duration,
    /// Who may read `/metrics`.
    pub metrics: MetricsReaders,
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsReaders {
    /// Who asks from this machine, not through a proxy, or shows the admin token.
    #[default]
    Loopback,
    /// Who shows the admin token.
    Admin,
    /// Everybody.
    Open,
    /// Nobody: there is no such address.
    Off,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 16 << 10,
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(25),
            request_timeout: Duration::from_mins(1),
            write_timeout: Duration::from_secs(20),
            body_budget_bytes: 256 << 20,
            body_budget_timeout: Duration::from_secs(3),
            linger_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(30),
            metrics: MetricsReaders::default(),
        }
    }
}

/// More than a machine has file descriptors for.
const MOST_CONNECTIONS: usize = 10_000_000;

impl HttpSettings {
    /// The places where a value can't work, in words for the operator. `max_file_bytes` is the image limit.
    pub fn check(&self, max_file_bytes: u64) -> Vec<String> {
        let mut found = Vec::new();
        if self.max_connections == 0 {
            found.push("http.max_connections is 0: nobody could connect".to_owned());
        }
        if self.max_connections > MOST_CONNECTIONS {
            found.push(format!(
                "http.max_connections is {}, more than {MOST_CONNECTIONS}",
                self.max_connections
            ));
        }
        let least = max_body_bytes(max_file_bytes);
        if self.body_budget_bytes < least {
            found.push(format!(
                "http.body_budget_bytes is {}, less than one largest body of {least}",
                self.body_budget_bytes
            ));
        }
        if self.body_budget_bytes.div_ceil(1 << 16) > u64::from(u32::MAX) {
            found.push(format!("http.body_budget_bytes is {}, more than 256 TiB", self.body_budget_bytes));
        }
        found
    }
}

/// The largest body that carries an image of `max_file_bytes`: in JSON, base64 takes 4 bytes for 3.
pub(crate) fn max_body_bytes(max_file_bytes: u64) -> u64 {
    max_file_bytes.div_ceil(3).saturating_mul(4).saturating_add(BODY_OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_a_budget_below_one_body_is_not() {
        let settings = HttpSettings::default();
        assert_eq!(settings.check(20 << 20), Vec::<String>::new());
        let small = HttpSettings { body_budget_bytes: 20 << 20, max_connections: 0, ..settings };
        assert_eq!(small.check(20 << 20).len(), 2);
    }

    #[test]
    fn settings_read_back_as_they_were_written() {
        let text = serde_json::to_string(&HttpSettings::default()).unwrap();
        assert!(text.contains(r#""body_timeout":"25s""#), "{text}");
        assert_eq!(serde_json::from_str::<HttpSettings>(&text).unwrap(), HttpSettings::default());
        assert!(serde_json::from_str::<HttpSettings>(r#"{"port": 8080}"#).is_err());
    }
}
