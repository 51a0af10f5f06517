//! Limits over any calls, in memory and in Redis: `EYEBOLT_TEST_REDIS_URL`, by default the server on 127.0.0.1.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use eyebolt_server::{
    ApiError, Quotas,
    quotas::{QuotaSettings, Told},
};
use eyebolt_store::Principal;
use eyebolt_types::{
    Clock, LimitOverrides, Limits, MAX_LIMIT, Mode, Policy, Scope,
    id::{KeyId, ProjectId, RequestId},
};
use jiff::SignedDuration;
use proptest::prelude::*;

use crate::{
    app::{Setup, TestApp, TestClock},
    database::Schema,
    wire::{Answer, key},
};

fn caller() -> Principal {
    Principal {
        key: KeyId::new(),
        project: ProjectId::new(),
        mode: Mode::Live,
        scopes: Scope::ALL.to_vec(),
        dedup_policy: None,
        plan: None,
        limits: LimitOverrides::default(),
        key_limits: Limits::default(),
    }
}

fn of(limits: &[(Policy, u64)]) -> QuotaSettings {
    let plans = [("standard".to_owned(), Limits(limits.iter().copied().collect()))];
    QuotaSettings { plans: plans.into(), ..QuotaSettings::default() }
}

/// The same, counted on this Redis server, under keys of its own. Slow tests on a busy machine are no outage.
fn on_redis(url: &str, limits: &[(Policy, u64)]) -> QuotaSettings {
    QuotaSettings {
        counters_url: url.into(),
        counters_prefix: format!("test-{}", RequestId::new()),
        counters_timeout: Duration::from_secs(5),
        ..of(limits)
    }
}

fn test_redis() -> String {
    std::env::var("EYEBOLT_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// Quotas whose counters must be there.
async fn shared(settings: QuotaSettings, clock: Clock) -> Quotas {
    let quotas = Quotas::open(settings, clock).await.expect("an address");
    assert_eq!(quotas.shared(), Some(true), "a Redis server for tests: scripts/test-redis starts one");
    quotas
}

async fn take(quotas: &Quotas, caller: &Principal, wanted: &[(Policy, u64)]) -> Result<(), ApiError> {
    quotas
        .take(caller, wanted, &Told::default())
        .await
        .map(eyebolt_server::quotas::Taken::spend)
        .map_err(ApiError::from)
}

/// How many of so many requests are let in.
async fn let_in(quotas: &Quotas, caller: &Principal, tries: usize) -> u64 {
    let mut count = 0;
    for _ in 0..tries {
        count += u64::from(take(quotas, caller, &[(Policy::RequestsPerMinute, 1)]).await.is_ok());
    }
    count
}

const ASKED: [(Policy, u64); 3] =
    [(Policy::UnitsPerMinute, 60), (Policy::MegapixelsPerMinute, 60_000), (Policy::BytesPerDay, 86_400)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Milliseconds before each request, and what it costs: units, thousandths of megapixels, bytes.
    #[test]
    fn a_client_alone_that_waits_as_long_as_told_is_let_in_and_no_window_holds_more_than_agreed(
        limits in (1..100u64, 1..100u64, 1..5000u64),
        traffic in prop::collection::vec((0..20_000u64, 0..50u64, 0..50_000u64, 0..3000u64), 1..40),
    ) {
        let limits = [
            (Policy::UnitsPerMinute, limits.0),
            (Policy::MegapixelsPerMinute, limits.1),
            (Policy::BytesPerDay, limits.2),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (clock, caller) = (TestClock::new(), caller());
        let quotas = runtime.block_on(Quotas::open(of(&limits), clock.clock())).expect("memory");
        let mut admitted = Vec::new();
        for (wait, units, thousandths, bytes) in traffic {
            clock.advance(SignedDuration::from_millis(wait as i64));
            let wanted = [
                (Policy::UnitsPerMinute, units),
                (Policy::MegapixelsPerMinute, thousandths),
                (Policy::BytesPerDay, bytes),
            ];
            let mut taken = runtime.block_on(take(&quotas, &caller, &wanted));
            if let Err(refused) = &taken
                && let Some(seconds) = refused.problem().retry_after
            {
                clock.advance(SignedDuration::from_secs(seconds.into()));
                taken = runtime.block_on(take(&quotas, &caller, &wanted));
                prop_assert!(taken.is_ok(), "after {seconds} s: {taken:?}");
            }
            if taken.is_ok() {
                admitted.push((clock.now(), wanted));
            }
        }
        for (index, (policy, limit)) in limits.into_iter().enumerate() {
            let (scale, window) = if policy == Policy::MegapixelsPerMinute { (1000, 60) } else if index == 2 { (1, 86_400) } else { (1, 60) };
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (at, wanted) in &admitted[first..] {
                    sum += u128::from(wanted[index].1);
                    let elapsed = at.duration_since(*from).as_nanos().unsigned_abs();
                    let most = u128::from(limit * scale) * (1_000_000_000 * window + elapsed) / (1_000_000_000 * window);
                    prop_assert!(sum <= most, "{sum} of {policy:?} in {elapsed} ns, limit {limit}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_one_redis_share_a_limit() {
    let settings = on_redis(&test_redis(), &[(Policy::RequestsPerMinute, 1000)]);
    let caller = caller();
    let began = Instant::now();
    let servers = [shared(settings.clone(), Clock::system()).await, shared(settings, Clock::system()).await];
    let run = |quotas: &Quotas| {
        let (quotas, caller) = (quotas.clone(), caller.clone());
        tokio::spawn(async move { let_in(&quotas, &caller, 1000).await })
    };
    let counts = [run(&servers[0]), run(&servers[0]), run(&servers[1]), run(&servers[1])];
    let mut sum = 0;
    for count in counts {
        sum += count.await.expect("no panic");
    }
    let most = 1000.0 * (1.0 + began.elapsed().as_secs_f64() / 60.0);
    assert!((1000..=most as u64).contains(&sum), "{sum} of {most}");
    assert_eq!(servers.map(|quotas| quotas.shared()), [Some(true); 2]);
}

#[tokio::test]
async fn two_apps_with_one_redis_share_a_limit() {
    let schema = Schema::new();
    let quotas = on_redis(&test_redis(), &[(Policy::ReadsPerMinute, 50)]);
    let setup = || Setup { quotas: quotas.clone(), ..Setup::on(&schema) };
    let began = Instant::now();
    let apps = [TestApp::set_up(setup()).await, TestApp::set_up(setup()).await];
    let mut sum = 0;
    for n in 0..120 {
        let answer = apps[n % 2].ask("GET /v1/jobs", &[], b"").await;
        assert!(matches!(answer.status, 200 | 429), "{}", answer.status);
        sum += u64::from(answer.status == 200);
    }
    let most = 50.0 * (1.0 + began.elapsed().as_secs_f64() / 60.0);
    assert!((50..=most as u64).contains(&sum), "{sum} of {most}");
    assert_eq!(apps[0].quotas.shared(), Some(true));
}

/// A Redis server of this test's own.
struct OwnRedis {
    port: u16,
    process: Child,
}

impl OwnRedis {
    fn start(port: Option<u16>) -> Self {
        let free =
            || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let port = port.unwrap_or_else(free);
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server: scripts/test-redis installs it");
        Self { port, process }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Until the counters are shared again; no longer than anybody would wait.
async fn until_shared(quotas: &Quotas) {
    let back = async {
        while quotas.shared() != Some(true) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back).await.expect("the counters are found again");
}

#[tokio::test]
async fn redis_that_dies_and_comes_back_refuses_nobody_and_opens_nothing() {
    let redis = OwnRedis::start(None);
    let port = redis.port;
    let settings =
        QuotaSettings { fallback_share: 0.25, ..on_redis(&redis.url(), &[(Policy::RequestsPerMinute, 100)]) };
    // The time stands still: nothing leaks out on this side.
    let quotas = Quotas::open(settings, TestClock::new().clock()).await.expect("an address");
    until_shared(&quotas).await;
    let caller = caller();
    assert_eq!(let_in(&quotas, &caller, 10).await, 10);
    drop(redis);
    assert_eq!(let_in(&quotas, &caller, 200).await, 15, "a quarter of the limit, less what was used before");
    assert_eq!(quotas.shared(), Some(false));
    let redis = OwnRedis::start(Some(port));
    until_shared(&quotas).await;
    assert_eq!(let_in(&quotas, &caller, 200).await, 75, "what was let in meanwhile counts");
    drop(redis);
    assert_eq!(let_in(&quotas, &caller, 50).await, 0);
}

// Matrix row 55.
#[tokio::test]
async fn keys_are_known_whatever_becomes_of_redis() {
    let redis = OwnRedis::start(None);
    let port = redis.port;
    let quotas = on_redis(&redis.url(), &[(Policy::RequestsPerMinute, 100)]);
    let mut app = TestApp::set_up(Setup { quotas, ..Setup::default() }).await;
    until_shared(&app.quotas).await;
    let first = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!(first.status, 200);
    drop(redis);
    assert_replays(&app, &first).await;
    assert_eq!(app.quotas.shared(), Some(false));
    // It comes back empty.
    let _redis = OwnRedis::start(Some(port));
    until_shared(&app.quotas).await;
    assert_replays(&app, &first).await;
    assert_eq!(app.runs(), 1);
    app.assert_charged(1).await;
}

async fn assert_replays(app: &TestApp, first: &Answer) {
    let again = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert!(again.body == first.body, "byte for byte");
    assert_eq!(app.analyze(b"dog", &[key("k")]).await.code(), "idempotency_key_reused");
}

#[tokio::test]
async fn a_server_starts_without_its_redis() {
    let quotas = on_redis("redis://127.0.0.1:1", &[(Policy::ReadsPerMinute, 10)]);
    let app = TestApp::set_up(Setup { quotas, ..Setup::default() }).await;
    let limits = app.read("/v1/limits").await;
    assert_eq!((&limits["shared"], &limits["data"][0]["remaining"]), (&false.into(), &4.into()));
}

#[tokio::test]
async fn counters_do_not_overflow() {
    let limits = Policy::ALL.map(|policy| (policy, MAX_LIMIT));
    let servers = [
        Quotas::open(of(&limits), Clock::system()).await.expect("memory"),
        shared(on_redis(&test_redis(), &limits), Clock::system()).await,
    ];
    for quotas in servers {
        let caller = caller();
        for _ in 0..3 {
            assert!(take(&quotas, &caller, &ASKED).await.is_ok());
            let refused =
                take(&quotas, &caller, &[(Policy::BytesPerDay, u64::MAX)]).await.expect_err("too much");
            assert_eq!(refused.problem().retry_after, None, "it never fits");
        }
        assert!(take(&quotas, &caller, &[(Policy::UnitsPerMinute, MAX_LIMIT - 1_000_000)]).await.is_ok());
        assert!(take(&quotas, &caller, &[(Policy::UnitsPerMinute, MAX_LIMIT)]).await.is_err());
    }
}

#[tokio::test]
async fn a_limit_of_nothing_lets_nothing_in_and_hides_no_other() {
    let limits = [(Policy::UnitsPerMinute, 0), (Policy::RequestsPerMinute, 2)];
    let servers = [
        Quotas::open(of(&limits), Clock::system()).await.expect("memory"),
        shared(on_redis(&test_redis(), &limits), Clock::system()).await,
    ];
    for quotas in servers {
        let caller = caller();
        assert!(take(&quotas, &caller, &[(Policy::RequestsPerMinute, 1)]).await.is_ok());
        let both = [(Policy::RequestsPerMinute, 1), (Policy::UnitsPerMinute, 1)];
        let refused = take(&quotas, &caller, &both).await.expect_err("nothing is agreed");
        assert_eq!(refused.problem().violated_policies, ["units_per_minute"]);
        assert!(take(&quotas, &caller, &[(Policy::RequestsPerMinute, 1)]).await.is_ok(), "nothing was taken");
    }
}

/// Of a day, so that next to nothing leaks out while this runs.
#[tokio::test]
async fn what_was_used_stays_used_where_a_limit_is_changed() {
    let day = |limit| of(&[(Policy::BytesPerDay, limit)]);
    let memory = Quotas::open(day(100), Clock::system()).await.expect("memory");
    let redis = on_redis(&test_redis(), &[(Policy::BytesPerDay, 100)]);
    // Two servers: what the other one let in is known from Redis alone.
    let servers = [shared(redis.clone(), Clock::system()).await, shared(redis, Clock::system()).await];
    for [first, second] in [[memory.clone(), memory], servers] {
        let caller = caller();
        let bytes = async |quotas, count| take(quotas, &caller, &[(Policy::BytesPerDay, count)]).await;
        assert!(bytes(&first, 100).await.is_ok());
        assert!(bytes(&second, 1).await.is_err());
        for (limit, left) in [(1000, 900), (200, 100), (1000, 900)] {
            second.reload(day(limit));
            assert!(bytes(&second, left + 1).await.is_err(), "{limit}");
            assert_eq!(left_of_day(&second, &caller).await, left);
        }
        assert!(bytes(&second, 800).await.is_ok());
        // More was used than the new limit is: all of that is used up, and no more.
        second.reload(day(100));
        assert_eq!(left_of_day(&second, &caller).await, 0);
        second.reload(day(1000));
        assert_eq!(left_of_day(&second, &caller).await, 900);
    }
}

async fn left_of_day(quotas: &Quotas, caller: &Principal) -> u64 {
    quotas.standing(caller, &Told::default()).await[0].remaining
}
