//! Counters in Redis or Valkey: one script call decides all limits of a request. The server's own time counts, so that the
//! clocks of several Eyebolt servers do not matter.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use eyebolt_admission::Quota;
use redis::{AsyncConnectionConfig, Client, RedisError, Script, aio::MultiplexedConnection};

use super::{
    counters::{Away, Cost, Counted, Counters, Name, Over},
    sharing::Remote,
};

/// Counters in one Redis server. Keys vanish by themselves a second after they are full again.
pub(super) struct Redis {
    client: Client,
    /// One that all requests share; made by [`Remote::connect`] alone.
    connection: Mutex<Option<MultiplexedConnection>>,
    script: Script,
    prefix: String,
}

impl Redis {
    /// Not connected yet.
    pub(super) fn new(url: &str, prefix: &str) -> Result<Self, RedisError> {
        Ok(Self {
            client: Client::open(url)?,
            connection: Mutex::default(),
            script: Script::new(include_str!("counters.lua")),
            prefix: prefix.to_owned(),
        })
    }

    /// The server's time, and what is still to leak out of each counter.
    async fn call(&self, what: &str, costs: &[Cost]) -> Result<(Duration, Vec<u64>), Away> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut connection = connection.ok_or_else(|| Away("there is no connection".to_owned()))?;
        let mut call = self.script.prepare_invoke();
        call.arg(what);
        for Cost { name, quota, units } in costs {
            let unit = quota.interval().unwrap_or(1);
            // More than fits may have been taken of a larger limit, and is given back.
            let cost = if what == BACK || fits(*quota, *units) { units.to_string() } else { "-1".to_owned() };
            call.key(self.key(name)).arg(unit.to_string()).arg(cost).arg(quota.tolerance().to_string());
        }
        let answer: Vec<u64> = call.invoke_async(&mut connection).await?;
        match answer.split_at_checked(2) {
            Some(([seconds, micros], backlogs)) if backlogs.len() == costs.len() => {
                Ok((Duration::from_secs(*seconds) + Duration::from_micros(*micros), backlogs.to_vec()))
            }
            _ => Err(Away(format!("{} numbers were answered of {} counters", answer.len(), costs.len()))),
        }
    }

    /// In braces what a cluster places keys by: those of a project are together.
    fn key(&self, Name { project, key, mode, policy }: &Name) -> String {
        let (prefix, mode, policy) = (&self.prefix, mode.name(), policy.name());
        match key {
            None => format!("{prefix}:{{{project}}}:{mode}:{policy}"),
            Some(key) => format!("{prefix}:{{{project}}}:{mode}:{key}:{policy}"),
        }
    }
}

/// What the script is told to do.
const TAKE: &str = "take";
const LEFT: &str = "left";
const BACK: &str = "back";

/// Whether so much would ever be let in.
fn fits(quota: Quota, units: u64) -> bool {
    units == 0 || (quota.units > 0 && units <= quota.burst.max(1))
}

impl Counters for Redis {
    async fn take(&self, costs: &[Cost], over: Over) -> Result<Vec<Counted>, Away> {
        let what = if over == Over::Refuse { TAKE } else { LEFT };
        let (_, backlogs) = self.call(what, costs).await?;
        let counted = |(cost, backlog): (&Cost, u64)| Counted { quota: cost.quota, backlog: backlog.into() };
        Ok(costs.iter().zip(backlogs).map(counted).collect())
    }

    async fn give_back(&self, costs: &[Cost]) -> Result<(), Away> {
        self.call(BACK, costs).await.map(drop)
    }
}

impl Remote for Redis {
    async fn connect(&self) -> Result<(), Away> {
        let config = AsyncConnectionConfig::new();
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(())
    }
}

impl From<RedisError> for Away {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eyebolt_types::{
        Clock, MAX_LIMIT, Mode, Policy,
        id::{ProjectId, RequestId},
    };
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::quotas::counters::{Memory, decisions};

    /// Keys of its own on the Redis server for tests.
    async fn redis() -> Redis {
        let url =
            std::env::var("EYEBOLT_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
        let redis = Redis::new(&url, &format!("test-{}", RequestId::new())).expect("an address");
        redis.connect().await.expect("a Redis server for tests: scripts/test-redis starts one");
        redis
    }

    /// A quota of each policy; windows are so short that much leaks out between two calls.
    fn quota() -> impl Strategy<Value = Quota> {
        let units = prop_oneof![1..50u64, 1..5000u64, Just(0), Just(MAX_LIMIT)];
        (units, 1..400u64, 1..5000u64, any::<bool>()).prop_map(|(units, window, burst, whole)| Quota {
            units,
            window: Duration::from_millis(window),
            burst: if whole { units } else { burst },
        })
    }

    /// What is done (taken, taken as far as possible, given back); of each policy, under which of its two quotas, and how much.
    type Call = (u8, Vec<(bool, u64)>);

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let units = prop_oneof![Just(0), 1..4u64, 0..100u64, Just(u64::MAX)];
        // Limits are changed now and then.
        let one = (prop::bool::weighted(0.2), units);
        prop::collection::vec((0..8u8, prop::collection::vec(one, 1..4)), 1..60)
    }

    async fn same(redis: &Redis, quotas: &[[Quota; 2]], calls: Vec<Call>) -> Result<(), TestCaseError> {
        let time = Arc::new(Mutex::new(Timestamp::UNIX_EPOCH));
        let told = Arc::clone(&time);
        let memory = Memory::new(Clock::told_by(move || *told.lock().unwrap()));
        let (project, mode) = (ProjectId::new(), Mode::Live);
        for (what, asked) in calls {
            let cost = |(policy, (quotas, (other, units))): (Policy, (&[Quota; 2], &(bool, u64)))| Cost {
                name: Name { project, key: None, mode, policy },
                quota: quotas[usize::from(*other)],
                units: *units,
            };
            let costs: Vec<_> = Policy::ALL.into_iter().zip(quotas.iter().zip(&asked)).map(cost).collect();
            let (what, over) = match what {
                0..6 => (TAKE, Over::Refuse),
                6 => (LEFT, Over::TakeLeft),
                _ => (BACK, Over::Refuse),
            };
            let (now, backlogs) = redis.call(what, &costs).await.expect("an answer");
            *time.lock().unwrap() = Timestamp::UNIX_EPOCH + SignedDuration::try_from(now).unwrap();
            if what == BACK {
                memory.give_back_now(&costs);
                continue;
            }
            let counted = memory.take_now(&costs, over);
            let expected: Vec<_> = counted.iter().map(|counted| counted.backlog).collect();
            prop_assert_eq!(backlogs.into_iter().map(u128::from).collect::<Vec<_>>(), expected);
            // Decided by the same code from here on.
            prop_assert_eq!(decisions(&costs, &counted).count(), costs.len());
        }
        Ok(())
    }

    #[test]
    fn redis_and_memory_decide_alike() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let redis = runtime.block_on(redis());
        let quotas = prop::collection::vec([quota(), quota()], 3);
        proptest!(ProptestConfig::with_cases(200), |(quotas in quotas, calls in calls())| {
            runtime.block_on(same(&redis, &quotas, calls))?;
        });
    }

    #[tokio::test]
    async fn a_counter_vanishes_by_itself_and_one_that_makes_no_sense_is_none() {
        let redis = redis().await;
        let name = Name {
            project: ProjectId::new(),
            key: None,
            mode: Mode::Live,
            policy: Policy::RequestsPerMinute,
        };
        let cost = Cost { name, quota: Quota::new(10, Duration::from_mins(1)), units: 5 };
        let mut raw = redis.connection.lock().unwrap().clone().unwrap();
        let () = redis::cmd("SET").arg(redis.key(&name)).arg("nonsense").query_async(&mut raw).await.unwrap();
        let (_, backlogs) = redis.call(TAKE, &[cost]).await.unwrap();
        assert_eq!(backlogs, [0]);
        let ttl: u64 = redis::cmd("PTTL").arg(redis.key(&name)).query_async(&mut raw).await.unwrap();
        assert!((29_000..=31_000).contains(&ttl), "half a window and a second: {ttl}");
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut raw).await.unwrap();
        assert!(redis.call(TAKE, &[cost]).await.is_ok(), "the script is sent again");
    }
}
