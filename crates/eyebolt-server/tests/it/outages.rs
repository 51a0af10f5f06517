//! A PostgreSQL server that goes away: at once, or after a commit and before it says so.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use eyebolt_server::jobs::JobSettings;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};

use crate::{
    app::{Setup, TestApp},
    database::Schema,
    wire::{Answer, key},
};

/// What stands between an app and its database.
struct Proxy {
    address: SocketAddr,
    /// Every connection ends when this changes.
    cut: watch::Sender<()>,
    down: Arc<AtomicBool>,
    /// The answer to the next commit gets lost, and the connection with it.
    armed: Arc<AtomicBool>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (down, armed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let cut = watch::Sender::new(());
        let (refuses, loses, cuts) = (Arc::clone(&down), Arc::clone(&armed), cut.subscribe());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if !refuses.load(Ordering::SeqCst) {
                    tokio::spawn(forward(near, Arc::clone(&loses), cuts.clone()));
                }
            }
        });
        Self { address, cut, down, armed }
    }

    fn go_down(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.cut.send_replace(());
    }

    fn come_up(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    fn lose_next_commit(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn has_lost(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }

    fn setup(&self) -> Setup {
        Setup::on(&Schema::through(self.address))
    }
}

async fn forward(near: TcpStream, armed: Arc<AtomicBool>, mut cut: watch::Receiver<()>) {
    let far = TcpStream::connect(Schema::server_address()).await.expect("the PostgreSQL server for tests");
    cut.mark_unchanged();
    let (mut from_app, mut to_app) = near.into_split();
    let (mut from_server, mut to_server) = far.into_split();
    let lost = AtomicBool::new(false);
    tokio::select! {
        () = requests(&mut from_app, &mut to_server, (&armed, &lost)) => {}
        () = answers(&mut from_server, &mut to_app, &lost) => {}
        _ = cut.changed() => {}
    }
}

async fn requests(
    from: &mut tcp::OwnedReadHalf,
    to: &mut tcp::OwnedWriteHalf,
    (armed, lost): (&AtomicBool, &AtomicBool),
) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let commits = chunk[..count].windows(7).any(|window| window == b"COMMIT\0");
        if commits && armed.swap(false, Ordering::SeqCst) {
            lost.store(true, Ordering::SeqCst);
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

/// Ends with the answer that gets lost: the commit has taken place by then.
async fn answers(from: &mut tcp::OwnedReadHalf, to: &mut tcp::OwnedWriteHalf, lost: &AtomicBool) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if lost.load(Ordering::SeqCst) || to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

/// An app whose key was used before, so that nothing else is written when it is used again.
async fn app_through(proxy: &Proxy) -> TestApp {
    let mut app = TestApp::set_up(proxy.setup()).await;
    assert_eq!(app.analyze(b"first", &[key("first")]).await.status, 200);
    assert_eq!(app.runs(), 1);
    app
}

fn assert_first(answer: &Answer) {
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None));
}

// Matrix row 29.
#[tokio::test]
async fn without_its_database_nothing_is_accepted_and_the_key_stays_free() {
    let proxy = Proxy::start().await;
    let mut app = app_through(&proxy).await;
    proxy.go_down();
    let refused = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!((refused.status, refused.code()), (503, "storage_unavailable"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(app.runs(), 0);

    proxy.come_up();
    assert_eq!(app.read("/v1/idempotency-keys/k").await["state"], "unused");
    assert_first(&app.analyze(b"another", &[key("k")]).await);
    app.assert_charged(2).await;
}

// Matrix row 54.
#[tokio::test]
async fn an_acceptance_whose_commit_is_not_confirmed_is_found_and_run_once() {
    let proxy = Proxy::start().await;
    let mut app = app_through(&proxy).await;
    proxy.lose_next_commit();
    let answer = app.analyze(b"cat", &[key("k")]).await;
    assert!(proxy.has_lost());
    assert_first(&answer);
    assert_eq!(app.runs(), 1);
    let again = app.analyze(b"cat", &[key("k")]).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &answer.body));
    app.assert_charged(2).await;
}

// Matrix row 54.
#[tokio::test]
async fn an_end_whose_commit_is_not_confirmed_is_told_and_charged_once() {
    let proxy = Proxy::start().await;
    let mut app = app_through(&proxy).await;
    let mut wire = app.begin(b"wait", &[key("k")]).await;
    assert_eq!(app.running.recv().await, Some(true));
    proxy.lose_next_commit();
    app.release();
    let answer = wire.answer().await;
    assert!(proxy.has_lost());
    assert_first(&answer);
    app.assert_charged(2).await;
}

#[tokio::test]
async fn what_was_computed_during_an_outage_is_kept_until_it_can_be_written() {
    let proxy = Proxy::start().await;
    let mut setup = proxy.setup();
    setup.rules.jobs = JobSettings { slots: 1, ..setup.rules.jobs };
    let mut app = TestApp::set_up(setup).await;
    let mut wire = app.begin(b"wait", &[key("k")]).await;
    assert_eq!(app.running.recv().await, Some(true));
    proxy.go_down();
    app.release();
    assert_eq!(app.running.recv().await, Some(false), "the engine is done");
    assert_eq!(app.analyze(b"cat", &[key("other")]).await.status, 503);
    proxy.come_up();
    let answer = wire.answer().await;
    assert_first(&answer);
    assert_eq!(app.runs(), 0);
    let job = app.read(&format!("/v1/jobs/{}", answer.job())).await;
    assert_eq!((&job["status"], &job["steps"][0]["attempt"]), (&json!("succeeded"), &json!(1)));
    app.assert_charged(1).await;
}
