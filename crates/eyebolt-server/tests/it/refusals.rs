//! Every refusal of `POST /v1/analyze` that the edge itself speaks, as a whole answer.

use eyebolt_server::http::document;
use insta::assert_json_snapshot;
use serde_json::{Map, Value, json};

use crate::{
    app::{KEY, MAX_FILE_BYTES, TestApp},
    wire::{Answer, FORM, JSON, form},
};

const IMAGE: (&str, &[u8]) = ("name=\"image\"", b"cat");
const ASKING: &str = "POST /v1/analyze?features=objects";

/// Collects whole answers by name, and holds each to the description of its operation.
struct Refusals {
    app: TestApp,
    answers: Map<String, Value>,
    declared: Value,
}

impl Refusals {
    async fn start() -> Self {
        let declared = serde_json::to_value(document()).expect("JSON");
        let declared = declared["paths"]["/v1/analyze"]["post"]["responses"].clone();
        Self { app: TestApp::start().await, answers: Map::new(), declared }
    }

    async fn of_form(&mut self, name: &str, parts: &[(&str, &[u8])]) {
        let line = if name.contains("nothing asked") { "POST /v1/analyze" } else { ASKING };
        self.of(name, line, (&[FORM], &form(parts))).await;
    }

    async fn of_request(&mut self, name: &str, document: &str) {
        let parts: [(&str, &[u8]); 2] = [("name=\"request\"", document.as_bytes()), IMAGE];
        self.of(name, "POST /v1/analyze", (&[FORM], &form(&parts))).await;
    }

    async fn of_json(&mut self, name: &str, body: &str) {
        self.of(name, "POST /v1/analyze", (&[JSON], body.as_bytes())).await;
    }

    async fn of(&mut self, name: &str, line: &str, (headers, body): (&[(&str, &str)], &[u8])) {
        let answer = self.app.ask(line, headers, body).await;
        self.add(name, &answer);
    }

    fn add(&mut self, name: &str, answer: &Answer) {
        let of_status = &self.declared[answer.status.to_string()];
        let codes = &of_status["headers"]["X-Error-Code"]["schema"]["enum"];
        let declared = codes.as_array().is_some_and(|codes| codes.contains(&json!(answer.code())));
        assert!(declared, "{name}: {} {} is not declared", answer.status, answer.code());
        let whole = answer.whole();
        for (header, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
            assert_eq!(whole["headers"][header], value, "{name}");
        }
        assert_eq!(whole["headers"]["content-type"], "application/problem+json", "{name}");
        assert!(!whole.to_string().contains('<'), "{name}: echoes what the client sent");
        let mut short = whole["body"].clone();
        let kept = ["connection", "retry-after", "x-should-retry"];
        for header in kept.into_iter().filter(|header| answer.headers.contains_key(*header)) {
            short[header] = json!(answer.headers[header]);
        }
        let problem = short.as_object_mut().expect("an object");
        for always in ["instance", "request_id", "title", "type"] {
            problem.remove(always);
        }
        self.answers.insert(name.to_owned(), short);
    }
}

#[tokio::test]
async fn parts() {
    let mut refusals = Refusals::start().await;
    refusals.of_form("no part image", &[("name=\"detail\"", b"low")]).await;
    refusals.of_form("no parts at all", &[]).await;
    refusals.of_form("two parts image", &[IMAGE, IMAGE]).await;
    refusals.of_form("an unknown part", &[IMAGE, ("name=\"<script>\"", b"x")]).await;
    refusals.of_form("a part without a name", &[IMAGE, ("filename=\"x\"", b"x")]).await;
    refusals.of_form("nothing asked", &[IMAGE]).await;
    refusals
        .of_form("a field twice", &[IMAGE, ("name=\"detail\"", b"low"), ("name=\"detail\"", b"low")])
        .await;
    refusals.of_form("a field in the query too", &[IMAGE, ("name=\"features\"", b"text")]).await;
    refusals
        .of_form("settings in the query too", &[IMAGE, ("name=\"request\"", b"{\"features\": [\"text\"]}")])
        .await;
    let both: [(&str, &[u8]); 3] = [IMAGE, ("name=\"request\"", b"{}"), ("name=\"detail\"", b"low")];
    refusals.of_form("request and fields", &both).await;
    let html = ("name=\"request\"\r\nContent-Type: text/html", &b"{}"[..]);
    refusals.of_form("a request part of HTML", &[IMAGE, html]).await;
    refusals.of_form("a field that is not UTF-8", &[IMAGE, ("name=\"detail\"", b"\xff")]).await;
    let long = vec![b' '; (64 << 10) + 1];
    refusals.of_form("a long request part", &[IMAGE, ("name=\"request\"", &long)]).await;
    let large = vec![0; MAX_FILE_BYTES as usize + 1];
    refusals.of_form("a large image", &[("name=\"image\"", &large)]).await;
    refusals.of_form("the engine refuses", &[("name=\"image\"", b"empty")]).await;
    refusals.of_form("the quality gate refuses", &[("name=\"image\"", b"dark")]).await;
    refusals.of_form("the engine panics", &[("name=\"image\"", b"panic")]).await;
    assert_json_snapshot!(refusals.answers);
}

#[tokio::test]
async fn settings() {
    let mut refusals = Refusals::start().await;
    refusals.of_request("broken JSON", "{\"features\": [\"objects\"],\n \"detail\": }").await;
    refusals.of_request("JSON cut off", "{\"features\": [\"objects\"]").await;
    refusals.of_request("not an object", "\"<b>\"").await;
    refusals.of_request("no features", "{}").await;
    refusals.of_request("an empty list of features", "{\"features\": []}").await;
    refusals.of_request("a feature twice", "{\"features\": [\"text\", \"text\"]}").await;
    refusals.of_request("an unknown feature", "{\"features\": [\"text\", \"<b>\"]}").await;
    let unknown = "{\"features\": [\"text\"], \"parameters\": {\"text\": {\"<b>\": 1}}}";
    refusals.of_request("an unknown parameter", unknown).await;
    let wild = "{\"features\": [\"text\"], \"parameters\": {\"text\": {\"min_confidence\": 1e39, \"max_results\": 0}}}";
    refusals.of_request("two values out of range", wild).await;
    let wrong = "{\"features\": [\"text\"], \"parameters\": {\"text\": {\"max_results\": \"<b>\"}}}";
    refusals.of_request("a value of another type", wrong).await;

    for query in [
        "features=objects,cats",
        "features=",
        "features=objects&features=text",
        "features=objects&colour=red",
        "features=objects&objects.colour=red",
        "features=objects&cats.colour=%3Cb%3E",
        "features=objects&objects.min_confidence=1.5",
        "features=objects&objects.max_results=many",
        "features=text&text.auto_rotate=perhaps",
        "features=objects&detail=huge",
    ] {
        let line = format!("POST /v1/analyze?{query}");
        refusals.of(query, &line, (&[FORM], &form(&[IMAGE]))).await;
    }
    assert_json_snapshot!(refusals.answers);
}

#[tokio::test]
async fn bodies() {
    let mut refusals = Refusals::start().await;
    let image = &form(&[IMAGE])[..];
    refusals.of("no media type", ASKING, (&[], image)).await;
    refusals.of("another media type", ASKING, (&[("Content-Type", "image/jpeg")], image)).await;
    refusals.of("no boundary", ASKING, (&[("Content-Type", "multipart/form-data")], image)).await;
    let gzip = [FORM, ("Content-Encoding", "gzip")];
    refusals.of("a compressed body", ASKING, (&gzip, image)).await;
    refusals.of("HTML alone is accepted", ASKING, (&[FORM, ("Accept", "text/html")], image)).await;
    let long = "x".repeat(17 << 10);
    refusals.of("long headers", ASKING, (&[FORM, ("X-Long", &long)], image)).await;
    refusals.of("another boundary", ASKING, (&[FORM], b"--other\r\n\r\n--other--\r\n")).await;
    refusals.of("no last boundary", ASKING, (&[FORM], &image[..image.len() - 10])).await;
    refusals.of("an empty body", ASKING, (&[FORM, ("Content-Length", "0")], b"")).await;

    refusals.of_json("JSON without an image", "{\"features\": [\"objects\"]}").await;
    refusals
        .of_json("base64 with a wrong letter", "{\"image_base64\": \"Y2F!\", \"features\": [\"objects\"]}")
        .await;
    refusals
        .of_json("base64 without padding", "{\"image_base64\": \"Y2F0Y2\", \"features\": [\"objects\"]}")
        .await;
    refusals.of_json("JSON with an unknown member", "{\"image_url\": \"<b>\"}").await;
    refusals.of_json("an image of another type", "{\"image_base64\": 7}").await;
    let large = format!("{{\"image_base64\": \"{}\"}}", "AAAA".repeat(MAX_FILE_BYTES as usize / 3 + 1));
    refusals.of_json("a large image in JSON", &large).await;
    let both = "{\"image_base64\": \"Y2F0\", \"features\": [\"objects\"]}";
    refusals.of("settings in JSON and in the query", ASKING, (&[JSON], both.as_bytes())).await;
    assert_json_snapshot!(refusals.answers);
}

/// The head of a request whose body comes by hand.
fn head(headers: &str) -> String {
    let key = KEY.reveal();
    format!("POST /v1/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{headers}\r\n\r\n")
}

/// The body is announced and never sent: the answer comes all the same.
#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_read() {
    let mut refusals = Refusals::start().await;
    let mut wire = refusals.app.open().await;
    let head = head(
        "Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=edge\r\nContent-Length: 9000000000",
    );
    wire.send(head.as_bytes()).await;
    let answer = wire.answer().await;
    refusals.add("announced", &answer);
    assert!(wire.is_closed().await);

    // Without an announcement it is cut off where it crosses the limit.
    let mut wire = refusals.app.open().await;
    let head = self::head("Transfer-Encoding: chunked\r\nContent-Type: application/json");
    wire.send(head.as_bytes()).await;
    let piece = [&b"10000\r\n"[..], &vec![b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..40 {
        wire.send(&piece).await;
    }
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.code()), (413, "payload_too_large"));
    assert_json_snapshot!(refusals.answers);
}

/// A body without a boundary is given up soon, not searched again and again.
#[tokio::test]
async fn a_part_with_endless_headers_is_refused() {
    let app = TestApp::start().await;
    let mut wire = app.open().await;
    let head = head("Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: 1000000");
    wire.send(head.as_bytes()).await;
    wire.send(b"--edge\r\nX-Long: ").await;
    for _ in 0..80 {
        wire.send(&[b'x'; 10_000]).await;
        tokio::task::yield_now().await;
    }
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_multipart"));
}

#[tokio::test]
async fn hostile_names_are_neither_refused_nor_echoed() {
    let mut app = TestApp::start().await;
    for (name, extension) in [
        ("../../../etc/passwd.txt", Some("txt")),
        ("photo.jpg\u{202e}gpj.exe", Some("exe")),
        ("<img src=x onerror=alert(1)>.JPG", Some("jpg")),
        ("%22; rm -rf x; %22.jpg", Some("jpg")),
        ("\u{1b}[31mred.jpg", None),
        ("é\u{301}\u{308}😀.png", Some("png")),
        ("name;with=semi.jpg", Some("jpg")),
        ("trailing. ", None),
        ("", None),
    ] {
        let head = format!("name=\"image\"; filename=\"{name}\"\r\nContent-Type: x/<script>");
        let answer = app.ask(ASKING, &[FORM], &form(&[(&head, b"cat")])).await;
        let text = format!("{}{:?}", String::from_utf8_lossy(&answer.body), answer.headers);
        assert!(!text.contains("<script>") && (name.is_empty() || !text.contains(name)), "{name}: {text}");
        if answer.status == 200 {
            let declared = app.seen.recv().await.expect("a submission").declared;
            assert_eq!((declared.extension.as_deref(), declared.media_type), (extension, None), "{name}");
        } else {
            assert_eq!((answer.status, extension), (400, None), "{name}: {text}");
        }
    }
}
