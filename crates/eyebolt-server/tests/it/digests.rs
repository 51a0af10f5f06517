//! Bodies whose digest was declared.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    app::{ANALYZE, Setup, TestApp},
    database::on_both,
    wire::{Answer, FORM, Wire, image, key, request},
};

fn digest(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    format!("sha-256=:{}:", STANDARD.encode(digest))
}

/// Sends headers that ask whether the body is wanted. What comes first: 100 where it is.
async fn knock(
    app: &TestApp,
    (line, name): (&str, &'static str),
    (declared, body): (&str, &[u8]),
) -> (Wire, Answer) {
    let headers = [FORM, key(name), ("Repr-Digest", declared), ("Expect", "100-continue")];
    let whole = request(line, &headers, body);
    let mut wire = app.open().await;
    wire.send(&whole[..whole.len() - body.len()]).await;
    let answer = wire.answer().await;
    (wire, answer)
}

on_both! {
    // Matrix row 51.
    async fn a_finished_request_is_answered_again_before_its_body_is_read(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let body = image(b"cat");
        let declared = digest(&body);
        let (mut wire, wanted) = knock(&app, (ANALYZE, "k"), (&declared, &body)).await;
        assert_eq!(wanted.status, 100);
        wire.send(&body).await;
        let first = wire.answer().await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));

        let (mut wire, again) = knock(&app, (ANALYZE, "k"), (&declared, &body)).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!((&again.body, again.header("location")), (&first.body, first.header("location")));
        assert_eq!(again.header("connection"), Some("close"), "nobody waits for the body");
        assert!(wire.is_closed().await);
        // Whoever sends the body unasked gets the same.
        let sent = app.analyze(b"cat", &[key("k"), ("Content-Digest", &declared)]).await;
        assert_eq!((sent.header("idempotent-replayed"), &sent.body), (Some("true"), &first.body));
        assert_eq!(app.runs(), 1);
        app.assert_charged(1).await;
    }

    async fn what_a_declared_digest_does_not_tell_the_body_does(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let body = image(b"cat");
        let declared = digest(&body);
        // A first request that declared nothing has nothing to be compared with.
        assert_eq!(app.analyze(b"cat", &[key("plain")]).await.status, 200);
        let (mut wire, wanted) = knock(&app, (ANALYZE, "plain"), (&declared, &body)).await;
        assert_eq!(wanted.status, 100);
        wire.send(&body).await;
        assert_eq!(wire.answer().await.header("idempotent-replayed"), Some("true"));

        assert_eq!(app.analyze(b"cat", &[key("k"), ("Repr-Digest", &declared)]).await.status, 200);
        let (other, labels) = (image(b"dog"), "POST /v1/analyze?features=labels");
        for (line, body) in [(ANALYZE, &other), (labels, &body)] {
            let (mut wire, wanted) = knock(&app, (line, "k"), (&digest(body), body)).await;
            assert_eq!(wanted.status, 100, "{line}: it asks something else");
            wire.send(body).await;
            let refused = wire.answer().await;
            assert_eq!((refused.status, refused.code()), (422, "idempotency_key_reused"));
        }
        // A job that still runs has no answer yet.
        let waits = image(b"wait");
        app.runs();
        let mut first = app.begin(b"wait", &[key("runs"), ("Repr-Digest", &digest(&waits))]).await;
        while app.running.recv().await != Some(true) {}
        let (mut wire, wanted) = knock(&app, (ANALYZE, "runs"), (&digest(&waits), &waits)).await;
        assert_eq!(wanted.status, 100);
        wire.send(&waits).await;
        assert_eq!(app.read("/v1/idempotency-keys/runs").await["state"], "running");
        app.release();
        assert_eq!(first.answer().await.status, 200);
        assert_eq!(wire.answer().await.status, 200);
    }

    // Matrix row 50.
    async fn a_body_that_was_not_declared_so_is_refused_and_the_key_stays_free(setup: Setup) {
        let mut app = TestApp::set_up(setup).await;
        let declared = digest(&image(b"dog"));
        for field in ["Repr-Digest", "Content-Digest"] {
            let refused = app.analyze(b"cat", &[key("k"), (field, &declared)]).await;
            assert_eq!((refused.status, refused.code()), (400, "digest_mismatch"));
            let found = digest(&image(b"cat"));
            let shown = |declared: &str| {
                let bytes = STANDARD.decode(declared.trim_start_matches("sha-256=").trim_matches(':'));
                hex::encode(bytes.unwrap())
            };
            let params = &refused.json()["params"];
            assert_eq!((&params["declared"], &params["found"]), (&shown(&declared).into(), &shown(&found).into()));
        }
        let unreadable = app.analyze(b"cat", &[key("k"), ("Repr-Digest", "sha-256=:AAAA:")]).await;
        assert_eq!((unreadable.status, unreadable.code()), (400, "invalid_request"));
        assert_eq!((app.runs(), &app.read("/v1/idempotency-keys/k").await["state"]), (0, &"unused".into()));
        let json = format!(r#"{{"image_base64": "{}", "features": ["objects"]}}"#, STANDARD.encode(b"cat"));
        let headers = [crate::wire::JSON, key("k"), ("Repr-Digest", &*digest(b"{}"))];
        let refused = app.ask("POST /v1/analyze", &headers, json.as_bytes()).await;
        assert_eq!(refused.code(), "digest_mismatch");
        assert_eq!(app.analyze(b"cat", &[key("k"), ("Repr-Digest", &digest(&image(b"cat")))]).await.status, 200);
    }
}
