//! `GET /metrics` and the page of the capacity law.

use std::collections::{BTreeMap, BTreeSet};

use eyebolt_server::{HttpSettings, MetricsReaders, access::AccessSettings};

use crate::{
    app::{Setup, TestApp},
    wire::key,
};

const TOKEN: &str = "an admin token of some length";

/// What was told, read strictly: by the name of each family its type, and its series with their values.
#[derive(Default)]
struct Told {
    types: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

/// Reads `OpenMetrics` text; panics at whatever is not in its form.
fn parse(text: &str) -> Told {
    let (mut told, mut family, mut helped) = (Told::default(), String::new(), false);
    let body = text.strip_suffix("# EOF\n").expect("an end");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(!told.types.contains_key(name) && text.ends_with('.'), "{line}");
            (family, helped) = (name.to_owned(), true);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(helped && name == family && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            told.types.insert(name.to_owned(), kind.to_owned());
            helped = false;
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] = match told.types[&family].as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_bucket", "_count", "_sum"],
            };
            let suffix = name.strip_prefix(family.as_str()).expect("series follow their family");
            assert!(suffixes.contains(&suffix), "{line}");
            labels(series);
            let value: f64 = value.parse().expect("a number");
            assert!(value.is_finite() && told.series.insert(series.to_owned(), value).is_none(), "{line}");
        }
    }
    told
}

/// `name="value"` after `name="value"`, each name once.
fn labels(series: &str) {
    let Some((_, rest)) = series.split_once('{') else { return };
    let (mut rest, mut names) = (rest.strip_suffix('}').expect("a brace"), BTreeSet::new());
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").expect("a label");
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') || name == "le",
            "{series}"
        );
        assert!(names.insert(name), "{series}");
        let (value, after) = value.split_once('"').expect("its end");
        assert!(!value.contains('\\') && !value.contains('\n'), "{series}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

async fn read(app: &TestApp) -> Told {
    let answer = app.ask("GET /metrics", &[], b"").await;
    let media_type = answer.header("content-type");
    assert_eq!(media_type, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = String::from_utf8(answer.body).unwrap();
    assert!(!text.contains("proj_") && !text.contains("key_"), "no ids: {text}");
    parse(&text)
}

#[tokio::test]
async fn what_happened_is_told_in_numbers() {
    let app = TestApp::start().await;
    app.analyze(b"cat", &[key("k")]).await;
    app.analyze(b"cat", &[key("k")]).await;
    app.analyze(b"cat", &[key("l")]).await;
    app.analyze(b"dark", &[key("d")]).await;
    app.ask("GET /nothing", &[], b"").await;
    app.ask("PURGE /v1/jobs/job_0", &[], b"").await;
    let told = read(&app).await;
    let mut expected = vec![
        (r#"eyebolt_http_requests_total{route="/v1/analyze",method="POST",status="200",code=""}"#, 3.0),
        (
            r#"eyebolt_http_requests_total{route="/v1/analyze",method="POST",status="422",code="too_dark"}"#,
            1.0,
        ),
        (
            r#"eyebolt_http_requests_total{route="unmatched",method="GET",status="404",code="route_not_found"}"#,
            1.0,
        ),
        (
            r#"eyebolt_http_requests_total{route="/v1/jobs/{id}",method="other",status="405",code="method_not_allowed"}"#,
            1.0,
        ),
        (r#"eyebolt_http_request_duration_seconds_count{route="/v1/analyze"}"#, 4.0),
        (r#"eyebolt_jobs_ended_total{status="succeeded"}"#, 2.0),
        (r#"eyebolt_jobs_ended_total{status="failed"}"#, 1.0),
        ("eyebolt_idempotency_replays_total", 1.0),
        (r#"eyebolt_dedup_hits_total{status="duplicate"}"#, 1.0),
        (r#"eyebolt_capacity_decisions_total{class="interactive",decision="admitted"}"#, 3.0),
        ("eyebolt_capacity_workers", 6.0),
        ("eyebolt_capacity_running", 0.0),
        ("eyebolt_runaway_clients", 0.0),
        (r#"eyebolt_quota_refusals_total{policy="units_per_minute",mode="enforced"}"#, 0.0),
        ("eyebolt_body_memory_limit_bytes", 268_435_456.0),
    ];
    expected.retain(|(series, value)| told.series.get(*series) != Some(value));
    assert_eq!(expected, [], "of {:#?}", told.series);
    let buckets = told.series.iter().filter(|(series, _)| {
        series.starts_with("eyebolt_http_request_duration_seconds_bucket") && series.contains("/v1/analyze\"")
    });
    let longest = buckets.map(|(_, value)| *value).fold(0.0, f64::max);
    assert_eq!(longest, 4.0, "buckets add up");
}

#[tokio::test]
async fn every_metric_has_a_line_in_the_docs_and_every_line_a_metric() {
    let app = TestApp::start().await;
    // One of each kind: a family without a series is not told of.
    app.analyze(b"cat", &[key("k")]).await;
    app.analyze(b"cat", &[key("k")]).await;
    app.analyze(b"cat", &[key("l")]).await;
    let lines = [("Content-Type", "application/x-ndjson"), key("b")];
    let line = br#"{"custom_id": "a", "image_base64": "ZW1wdA=="}"#;
    assert_eq!(app.ask("POST /v1/batches?features=objects", &lines, line).await.status, 202);
    while app.read("/v1/batches").await["data"][0]["status"] == "processing" {}
    let told = read(&app).await;
    let page = include_str!("../../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `eyebolt_"));
    let listed: BTreeMap<_, _> = rows
        .map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            let (name, kind) = (cells.next().unwrap(), cells.next().unwrap());
            let name =
                name.strip_suffix("_total").filter(|_| kind == "counter").map(str::to_owned).unwrap_or(name);
            (format!("eyebolt_{name}"), kind)
        })
        .collect();
    assert_eq!(listed, told.types);
}

#[tokio::test]
async fn who_may_read_is_set() {
    let bearer = format!("Bearer {TOKEN}");
    let (token, forwarded) = (("Authorization", bearer.as_str()), ("X-Forwarded-For", "203.0.113.7"));
    let cases = [
        (MetricsReaders::Loopback, [200, 401, 200]),
        (MetricsReaders::Admin, [401, 401, 200]),
        (MetricsReaders::Open, [200, 200, 200]),
        (MetricsReaders::Off, [404, 404, 404]),
    ];
    for (metrics, statuses) in cases {
        let access = AccessSettings { admin_token: TOKEN.into(), ..AccessSettings::default() };
        let http = HttpSettings { metrics, ..HttpSettings::default() };
        let app = TestApp::set_up(Setup { http, access, ..Setup::default() }).await;
        let mut found = Vec::new();
        for headers in [&[][..], &[forwarded], &[forwarded, token]] {
            found.push(app.ask("GET /metrics", headers, b"").await.status);
        }
        assert_eq!(found, statuses, "{metrics:?}");
    }
    let app = TestApp::start().await;
    let refused = app.ask("GET /metrics", &[forwarded], b"").await;
    assert_eq!(refused.code(), "admin_api_off", "without a token there is nobody else");
}

#[tokio::test]
async fn the_page_of_capacity_is_made_of_three_files_and_nothing_else() {
    let app = TestApp::start().await;
    let files = [
        ("/debug/capacity", "text/html; charset=utf-8"),
        ("/debug/capacity.js", "text/javascript; charset=utf-8"),
        ("/debug/capacity.css", "text/css; charset=utf-8"),
    ];
    let mut page = String::new();
    for (address, media_type) in files {
        let answer = app.ask(&format!("GET {address}"), &[], b"").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("//") || !text.contains("http"), "{address} names another place");
        page += &text;
    }
    // What the policy would stop.
    for inline in ["style=", "onclick=", "onload=", "innerHTML", "<script>", "<style>"] {
        assert!(!page.contains(inline), "{inline}");
    }
    for member in ["work_seconds", "decisions", "history", "held_back", "correction"] {
        assert!(page.contains(member), "{member}");
    }
}
