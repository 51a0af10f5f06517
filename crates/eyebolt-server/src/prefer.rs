//! The header `Prefer` (RFC 7240): whether a client waits, and how long.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// What a client prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Prefer {
    /// An answer at once, whatever the state.
    pub(crate) respond_async: bool,
    /// An answer after so long at the latest.
    pub(crate) wait: Option<Duration>,
}

const PREFER: HeaderName = HeaderName::from_static("prefer");

impl Prefer {
    /// Preferences that are not known, or can't be read, are ignored, as the RFC wants it; the first of a name counts.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let lines = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                found.respond_async = true;
            } else if name.trim().eq_ignore_ascii_case("wait") && found.wait.is_none() {
                let seconds = value.trim().trim_matches('"').parse().ok();
                found.wait = seconds.map(Duration::from_secs);
            }
        }
        found
    }

    /// The time to wait: as asked, at most `longest`, `standard` where nothing is asked. With `respond-async` alone,
    /// none.
    pub(crate) fn patience(self, standard: Duration, longest: Duration) -> Duration {
        match self.wait {
            Some(wait) => wait.min(longest),
            None if self.respond_async => Duration::ZERO,
            None => standard.min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn preferences_are_read_and_what_is_strange_is_ignored() {
        let of = |value: &'static str| {
            Prefer::of(&HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]))
        };
        let seconds = |wait| Some(Duration::from_secs(wait));
        assert_eq!(of("wait=10"), Prefer { respond_async: false, wait: seconds(10) });
        assert_eq!(of("respond-async, wait=\"3\"; x=y"), Prefer { respond_async: true, wait: seconds(3) });
        assert_eq!(of("WAIT = 2, wait=9"), Prefer { respond_async: false, wait: seconds(2) });
        for strange in ["", "wait", "wait=soon", "wait=-1", "return=minimal", ",,;="] {
            assert_eq!(of(strange), Prefer::default(), "{strange}");
        }
        let (standard, longest) = (Duration::from_secs(10), Duration::from_secs(55));
        assert_eq!(of("wait=99").patience(standard, longest), longest);
        assert_eq!(of("").patience(standard, longest), standard);
        assert_eq!(of("respond-async").patience(standard, longest), Duration::ZERO);
        assert_eq!(of("respond-async, wait=4").patience(standard, longest), Duration::from_secs(4));
    }
}
