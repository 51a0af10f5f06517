//! The server that a command asks, and asks again: what passes by is no failure.

use std::{cell::Cell, time::Duration};

use eyebolt_types::Problem;
use tokio::time::sleep;

use super::call::{Call, CallError, Connection, Reply};
use crate::chance;

/// Which server is asked, and with which key.
#[derive(Debug, clap::Args)]
pub(super) struct Address {
    /// The server, `http://HOST` or `https://HOST`, with a port and a path where it has them. Default: the variable
    /// `EYEBOLT_SERVER`; without it, `batch` asks `http://127.0.0.1:8080`, and `analyze` this process.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// An API key of the server; default: the variable `EYEBOLT_KEY`, which other users of this machine can't see.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

const STANDARD: &str = "http://127.0.0.1:8080";

/// What is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Address {
    /// The server, where one is named.
    pub(super) fn named(&self) -> anyhow::Result<Option<Server>> {
        let Some(url) = self.server.clone().or_else(|| variable("EYEBOLT_SERVER")) else {
            anyhow::ensure!(self.key.is_none(), "--key is shown to a server: name one, --server URL");
            return Ok(None);
        };
        Ok(Some(self.at(url)))
    }

    /// The server, or the one at the standard address.
    pub(super) fn server(&self) -> Server {
        self.at(self
            .server
            .clone()
            .or_else(|| variable("EYEBOLT_SERVER"))
            .unwrap_or_else(|| STANDARD.to_owned()))
    }

    fn at(&self, url: String) -> Server {
        let key = self.key.clone().or_else(|| variable("EYEBOLT_KEY"));
        Server { url, key, answered: Cell::new(false) }
    }
}

/// A server. A request that it could not answer at the moment, or whose answer was lost, is sent again with its idempotency key.
pub(super) struct Server {
    url: String,
    key: Option<String>,
    /// Whether it has answered this process.
    answered: Cell<bool>,
}

/// How long one request waits in all before it is tried again. For servers that are restarted, and limits of a minute.
const PATIENCE: Duration = Duration::from_mins(2);

/// The same while no server has ever answered: the address may be wrong.
const DOUBT: Duration = Duration::from_secs(5);

/// Before the second try; doubled before each further one.
const FIRST: Duration = Duration::from_millis(250);

/// Before any try, unless the server asks for more.
const LONGEST: Duration = Duration::from_secs(8);

/// What is waited for a request that is tried again.
#[derive(Default)]
struct Waits {
    tries: u32,
    all: Duration,
}

impl Waits {
    /// Before the next try, at least as long as the server asks for; nothing once that would be more than `most` in all. `roll`: 0 to 1.
    fn next(&mut self, asked: Duration, (most, roll): (Duration, f64)) -> Option<Duration> {
        let bound = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        let pause = bound.mul_f64(0.5 + roll / 2.0).max(asked);
        self.tries += 1;
        self.all = self.all.saturating_add(pause);
        (self.all <= most).then_some(pause)
    }
}

/// Where what the server said is for now alone: the time that it asks for, or none.
fn is_for_now(reply: &Reply) -> Option<Duration> {
    let (passes, told) = match reply.problem() {
        // A failed job is for whoever asked: the server has tried it again by itself.
        Some(problem) => {
            let told = problem.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
            (problem.retryable && [409, 429, 503].contains(&reply.status), told)
        }
        // Of a proxy before it.
        None => ([429, 502, 503, 504].contains(&reply.status), None),
    };
    passes.then(|| told.max(reply.retry_after).unwrap_or_default())
}

impl Server {
    /// Sends a request, and reads its answer. `call` makes it anew for each try.
    pub(super) async fn ask(&self, call: impl Fn() -> Call) -> anyhow::Result<Reply> {
        self.again(async || Ok(Connection::open(&self.url).await?.call(self.with_key(call())).await?)).await
    }

    /// Sends a request, and hands the lines of its answer on as they come. `call` makes it anew for each try, for what is behind
    /// the lines that were taken.
    pub(super) async fn read(
        &self,
        mut call: impl FnMut() -> Call,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Reply> {
        self.again(async || Connection::open(&self.url).await?.lines(self.with_key(call()), &mut take).await)
            .await
    }

    fn with_key(&self, call: Call) -> Call {
        Call { key: self.key.clone(), ..call }
    }

    async fn again(&self, mut attempt: impl AsyncFnMut() -> anyhow::Result<Reply>) -> anyhow::Result<Reply> {
        let mut waits = Waits::default();
        loop {
            let tried = attempt().await;
            let asked = match &tried {
                Ok(reply) => is_for_now(reply),
                Err(error) => {
                    let passes = error.downcast_ref::<CallError>().is_some_and(CallError::passes);
                    passes.then_some(Duration::ZERO)
                }
            };
            self.answered.set(self.answered.get() || tried.is_ok());
            let most = if self.answered.get() { PATIENCE } else { DOUBT };
            let Some(pause) = asked.and_then(|asked| waits.next(asked, (most, chance::roll()))) else {
                return tried;
            };
            if pause >= Duration::from_secs(1) {
                eprintln!("eyebolt: {}; asking again in {pause:.0?}", why(&tried));
            }
            sleep(pause).await;
        }
    }
}

fn why(tried: &anyhow::Result<Reply>) -> String {
    match tried {
        Ok(reply) => {
            reply.problem().map_or_else(|| format!("status {}", reply.status), |problem| problem.detail)
        }
        Err(error) => format!("{error:#}"),
    }
}

/// Whether whatever is asked next would be refused too.
pub(super) fn refuses_all(reply: &Reply) -> bool {
    matches!(reply.status, 401 | 403 | 429 | 502 | 503 | 504)
}

/// An answer that is no success, for people.
pub(super) fn refusal(reply: &Reply) -> anyhow::Error {
    let status = reply.status;
    let Some(Problem { code, detail, errors, .. }) = reply.problem() else {
        return anyhow::anyhow!(
            "status {status}, and nothing that an Eyebolt server says: is it at this address?"
        );
    };
    let at = errors.iter().map(|error| format!("; {}: {}", error.pointer, error.detail));
    let remedy = match status {
        401 => " Set EYEBOLT_KEY or --key to a key of this server.",
        403 => " Set EYEBOLT_KEY or --key to a key that may do this.",
        _ => "",
    };
    anyhow::anyhow!("{code}: {detail}{}{remedy}", at.collect::<String>())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eyebolt_types::ErrorCode;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_a_bound_and_end() {
        let mut waits = Waits::default();
        let all: Vec<_> = std::iter::from_fn(|| waits.next(Duration::ZERO, (PATIENCE, 1.0))).collect();
        assert_eq!(all[..7], [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0].map(Duration::from_secs_f64));
        assert!(all.iter().sum::<Duration>() <= PATIENCE && all.len() > 15, "{all:?}");
        let mut doubts = Waits::default();
        assert_eq!(std::iter::from_fn(|| doubts.next(Duration::ZERO, (DOUBT, 0.0))).count(), 5);
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it_unless_it_is_too_much() {
        let mut waits = Waits::default();
        assert_eq!(waits.next(60 * SECOND, (PATIENCE, 0.0)), Some(60 * SECOND));
        assert_eq!(waits.next(61 * SECOND, (PATIENCE, 0.0)), None);
    }

    fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
        Reply { status, retry_after: Some(3 * SECOND), body: body.into() }
    }

    #[test]
    fn only_what_is_for_now_is_asked_again() {
        let told = |code: ErrorCode| {
            let problem = Problem::new(code, "So it is.");
            is_for_now(&reply(problem.status, serde_json::to_vec(&problem).unwrap()))
        };
        for code in [ErrorCode::QuotaExceeded, ErrorCode::StorageUnavailable, ErrorCode::IdempotencyKeyInUse]
        {
            assert_eq!(told(code), Some(3 * SECOND), "{code}");
        }
        for code in [
            ErrorCode::InvalidApiKey,
            ErrorCode::QuotaExhausted,
            ErrorCode::UnknownFeature,
            ErrorCode::ModelFailed,
            ErrorCode::IdempotencyKeyReused,
        ] {
            assert_eq!(told(code), None, "{code}");
        }
        assert_eq!(is_for_now(&reply(502, "<html>Bad Gateway")), Some(3 * SECOND));
        assert_eq!(is_for_now(&reply(404, "<html>Not Found")), None);
        assert_eq!(is_for_now(&reply(200, "{}")), None);
    }
}
